"""The step Jacobian of a GRU whose reset gate multiplies the state before the matrix does (Cho et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from rnndiag.operators.structured import StepJacobian
from rnndiag.operators.wide import times_power_of_two

CHUNK_BYTES = 32 << 20
"""Of the dense maps that the Frobenius norm looks at together."""


@dataclass(frozen=True, slots=True, eq=False)
class ResetFirst(StepJacobian):
    """A shared matrix behind another: the candidate sees the state through the reset gate and ``W_hn``.

    With ``y = W v`` in three blocks (r, z, n)::

        J v = z * v + b_z * y_z + b_n * (W_hn (r * v + b_r * y_r))      of the state, W = W_hh
        J v = b_z * y_z + b_n * (y_n + W_hn (b_r * y_r))                of the input, W = W_ih

    ``reset`` and ``carry`` are there for the state's map and None for the input's.
    """

    gain: Tensor
    """``b_z`` and ``b_n``: ``[*batch, 2*H]``"""
    reset_gain: Tensor
    """``b_r``: ``[*batch, H]``"""
    weight: Tensor
    """``W``: ``[3*H, n]``"""
    inner: Tensor
    """``W_hn``: ``[H, H]``"""
    reset: Tensor | None = None
    """``r``: ``[*batch, H]``"""
    carry: Tensor | None = None
    """``z``: ``[*batch, H]``"""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("gain", "reset_gain", "reset", "carry")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("gain", "carry")

    @property
    def shape(self) -> tuple[int, int]:
        return self.inner.shape[0], self.weight.shape[1]

    def mv(self, v: Tensor) -> Tensor:
        hidden = self.inner.shape[0]
        b_z, b_n = self.gain.chunk(2, dim=-1)
        if self.reset is None or self.carry is None:
            y_r, y_z, y_n = (v @ self.weight.T).chunk(3, dim=-1)
            return (b_z * y_z).addcmul_(b_n, y_n + (self.reset_gain * y_r) @ self.inner.T)
        y_r, y_z = (v @ self.weight[: 2 * hidden].T).chunk(2, dim=-1)
        behind = (self.reset * v).addcmul_(self.reset_gain, y_r) @ self.inner.T
        return (self.carry * v).addcmul_(b_z, y_z).addcmul_(b_n, behind)

    def scatter(self, u: Tensor) -> Tensor:
        b_z, b_n = self.gain.chunk(2, dim=-1)
        at_n = b_n * u
        return torch.cat((self.reset_gain * (at_n @ self.inner), b_z * u, at_n), dim=-1)

    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        hidden = self.inner.shape[0]
        if self.reset is None or self.carry is None:
            return scattered @ self.weight
        out = scattered[..., : 2 * hidden] @ self.weight[: 2 * hidden]
        out.addcmul_(self.reset, scattered[..., 2 * hidden :] @ self.inner)
        return out.addcmul_(self.carry, u)

    def with_rows_times(self, exponent: Tensor) -> Self:
        repeated = exponent.repeat(*(1,) * (exponent.ndim - 1), 2)
        carry = None if self.carry is None else times_power_of_two(self.carry, exponent)
        return replace(self, gain=times_power_of_two(self.gain, repeated), carry=carry)

    def frobenius_squared(self) -> Tensor:
        """By the dense maps, a few at a time: ``O(H^3)`` a map.

        The terms in ``b_n``, ``W_hn``, ``b_r`` and ``W_r`` are cubic in the diagonals, and no product of the
        shared matrices stands for them.
        """
        flat = self.flatten()
        size = max(1, CHUNK_BYTES // (self.gain.element_size() * self.inner.shape[0] * self.weight.shape[1]))
        sums = [flat[i : i + size]._dense().square().sum((-1, -2)) for i in range(0, len(flat), size)]
        return torch.cat(sums).reshape(self.batch)

    def _dense(self) -> Tensor:
        w_r, w_z, w_n = self.weight.chunk(3, dim=0)
        b_z, b_n = self.gain[..., None].chunk(2, dim=-2)
        behind = self.reset_gain[..., None] * w_r
        if self.reset is not None:
            behind.diagonal(dim1=-2, dim2=-1).add_(self.reset)
        dense = self.inner @ behind
        if self.reset is None:
            dense += w_n
        dense.mul_(b_n).addcmul_(b_z, w_z)
        if self.carry is not None:
            dense.diagonal(dim1=-2, dim2=-1).add_(self.carry)
        return dense
