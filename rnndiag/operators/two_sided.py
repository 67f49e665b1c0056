"""The step Jacobian of a net that applies its nonlinearity before the recurrent weight: diagonals on both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from rnndiag.operators.structured import StepJacobian, times
from rnndiag.operators.wide import times_power_of_two


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalPlusTwoSided(StepJacobian):
    """``J v = a * v + b * (W (s * v))``."""

    gain: Tensor
    """``b``: ``[*batch, H]``"""
    weight: Tensor
    """``W``: ``[H, H]``"""
    slope: Tensor
    """``s``: ``[*batch, H]``"""
    carry: Tensor
    """``a``: ``[*batch, H]``"""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("gain", "slope", "carry")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("gain", "carry")

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[-2], self.weight.shape[-1]

    def mv(self, v: Tensor) -> Tensor:
        return times(self.slope * v, self.weight.mT).mul_(self.gain).addcmul_(self.carry, v)

    def scatter(self, u: Tensor) -> Tensor:
        return self.gain * u

    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        return times(scattered, self.weight).mul_(self.slope).addcmul_(self.carry, u)

    def with_rows_times(self, exponent: Tensor) -> Self:
        return replace(
            self, gain=times_power_of_two(self.gain, exponent), carry=times_power_of_two(self.carry, exponent)
        )

    def frobenius_squared(self) -> Tensor:
        """Entry ``(i, j)`` is ``b_i W_ij s_j``, and ``a_i`` is added on the diagonal."""
        squares = times(self.slope.square(), self.weight.square().mT)
        on_diagonal = self.gain * self.slope * self.weight.diagonal(dim1=-2, dim2=-1)
        return (self.gain.square() * squares + self.carry * (self.carry + 2 * on_diagonal)).sum(-1)
