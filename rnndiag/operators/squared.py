r"""Symmetric maps whose eigenvalues are the squared singular values of a batch of operators.

In general that is ``J^T J``, a product with ``J`` and one with ``J^T``. Where ``J = D W`` with ``D`` diagonal,
``J J^T = D (W W^T) D`` has the same eigenvalues, zeros aside, and ``W W^T`` is one matrix for all maps: half the
flops. An entry of the computed ``W W^T`` is wrong by at most ``n eps`` times the norms of its two rows, so the largest
eigenvalue by ``n eps ||J||_F^2`` at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import DiagonalPlusShared

FEWEST_MAPS = 16
"""``W W^T`` costs about as much as it saves where the maps are one in so many of its rows."""


WIDE = 512
"""Rows from which on products cost so much more than all else that half of them in single precision pay."""


class Squared(Protocol):
    """Symmetric positive maps ``R^n -> R^n`` with a single batch axis."""

    def __call__(self, v: Tensor, out: Tensor, scratch: Tensor) -> Tensor:
        """``[batch, n] -> [batch, n]``, in ``out`` or elsewhere; both tensors may be overwritten.

        New memory for each vector would cost up to a fifth of the time, in page faults.
        """
        ...

    def __getitem__(self, index: Any) -> Self:
        """The maps at an index."""
        ...

    def scaled(self, factor: Tensor) -> Self:
        """The maps of ``factor * J``, ``factor [batch]``."""
        ...

    def single(self) -> Self | None:
        """The maps in single precision; None where that is not to be had, or is no faster."""
        ...

    def magnitude(self, v: Tensor) -> Tensor:
        """About ``||J||``, to divide by, from unit vectors ``v``: ``[batch]``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ThereAndBack:
    """``J^T J``."""

    operator: BatchedOperator

    def __call__(self, v: Tensor, out: Tensor, scratch: Tensor) -> Tensor:
        del out, scratch
        return self.operator.rmv(self.operator.mv(v))

    def __getitem__(self, index: Any) -> Self:
        return replace(self, operator=self.operator[index])

    def scaled(self, factor: Tensor) -> Self:
        return replace(self, operator=self.operator.scaled(factor))

    def single(self) -> None:
        return None

    def magnitude(self, v: Tensor) -> Tensor:
        return self.operator.mv(v).abs().amax(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Sandwich:
    """``D (W W^T) D``."""

    gain: Tensor
    """``D``: ``[batch, m]``"""
    gram: Tensor
    """``W W^T``: ``[m, m]``"""

    def __call__(self, v: Tensor, out: Tensor, scratch: Tensor) -> Tensor:
        return torch.mm(torch.mul(v, self.gain, out=scratch), self.gram, out=out).mul_(self.gain)

    def __getitem__(self, index: Any) -> Self:
        return replace(self, gain=self.gain[index])

    def scaled(self, factor: Tensor) -> Self:
        return replace(self, gain=self.gain * factor[:, None])

    def single(self) -> Self | None:
        if self.gram.dtype != torch.float64 or len(self.gram) < WIDE:
            return None
        return replace(self, gain=self.gain.float(), gram=self.gram.float())

    def magnitude(self, v: Tensor) -> Tensor:
        """The longest row of ``J``, which ``||J||`` exceeds by at most ``sqrt(m)``."""
        return (self.gain.abs() * self.gram.diagonal().sqrt()).amax(-1)


def squared(operator: BatchedOperator) -> tuple[Squared, int]:
    """The cheaper of the two for maps with a single batch axis, and its ``n``."""
    m, n = operator.shape
    shared = isinstance(operator, DiagonalPlusShared) and operator.blocks == 1 and operator.carry is None
    if not (shared and isinstance(operator, DiagonalPlusShared)) or FEWEST_MAPS * len(operator) < m:
        return ThereAndBack(operator), n
    # Entries of W near the ends of the range would be lost in W W^T: their size goes to D.
    size = operator.weight.abs().amax()
    size = torch.where(size > 0, size, torch.ones_like(size))
    weight = operator.weight / size
    return Sandwich(operator.gain * size, weight @ weight.mT), m
