"""Vectors whose size is stored as a logarithm, so that no product of many Jacobians leaves the range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.row_scaled import RowScaled
from rnndiag.operators.wide import LN_2


@dataclass(frozen=True, slots=True, eq=False)
class ScaledVectors:
    """Vectors ``value * exp(log)``: ``value [..., n]`` of moderate size, ``log [...]``."""

    value: Tensor
    log: Tensor

    @classmethod
    def of(cls, value: Tensor, log: Tensor) -> ScaledVectors:
        """Bring the largest entry to 1; the zero vector gets ``log = -inf``."""
        size = value.abs().amax(-1)  # ten times as fast as torch's norm of order infinity
        unit = value / torch.where(size > 0, size, 1.0)[..., None]
        return cls(unit, log + size.log())

    @classmethod
    def back(cls, jacobian: BatchedOperator, vectors: ScaledVectors) -> ScaledVectors:
        """``J^T`` times the vectors."""
        if isinstance(jacobian, RowScaled):
            image, power = jacobian.pulled_back(vectors.value)
            return cls.of(image, vectors.log + power * LN_2)
        return cls.of(jacobian.rmv(vectors.value), vectors.log)

    def __add__(self, other: ScaledVectors) -> ScaledVectors:
        # The clamp keeps the sum of two zero vectors (-inf each) from becoming NaN.
        top = torch.maximum(self.log, other.log).clamp_min(torch.finfo(self.log.dtype).min)
        left, right = (self.log - top).exp()[..., None], (other.log - top).exp()[..., None]
        return ScaledVectors.of(self.value * left + other.value * right, top)

    def log_norm(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.value, dim=-1)
        return self.log + norm.log()

    def __getitem__(self, t: int) -> ScaledVectors:
        return ScaledVectors(self.value[t], self.log[t])

    def flip(self) -> ScaledVectors:
        return ScaledVectors(self.value.flip(0), self.log.flip(0))

    @classmethod
    def cat(cls, parts: Sequence[ScaledVectors]) -> ScaledVectors:
        return cls(torch.cat([part.value for part in parts]), torch.cat([part.log for part in parts]))

    def columns(self, start: int, stop: int) -> ScaledVectors:
        return ScaledVectors.of(self.value[..., start:stop], self.log)
