"""Numbers beyond the range of their dtype: ``value * 2^exponent``, entry by entry.

A slope ``sech^2(400)`` is ``1e-347`` and a closed gate ``sigmoid(-800)`` is ``1e-348``: float64 rounds both to zero,
but their logarithms, and their products with large weights, are ordinary numbers. Multiplication by a power of two is
exact, so storing the exponent separately loses no digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LN_2 = math.log(2)


def times_power_of_two(value: Tensor, exponent: Tensor) -> Tensor:
    """``value * 2^exponent`` for integer exponents of any size, rounded only where the result leaves the range.

    The power alone can leave the range although the product does not (``5e-324 * 2^1074 = 1``), so it is applied in
    three factors. ``torch.ldexp`` multiplies once, and returns infinity in that case.
    """
    reach = 2100 if value.dtype == torch.float64 else 300  # from the smallest subnormal to the largest number
    whole = exponent.clamp(-reach, reach)
    third = (whole / 3).trunc()
    factor = _power_of_two(third)
    return value * factor * factor * _power_of_two(whole - 2 * third)


def _power_of_two(exponent: Tensor) -> Tensor:
    """``2^exponent`` exactly, for exponents of normal numbers: the exponent is written into the number's bits."""
    if exponent.dtype == torch.float64:
        return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponent.to(torch.int32) + 127) << 23).view(torch.float32)


def binary_exponent(value: Tensor) -> Tensor:
    """The exponent ``e`` with ``2^(e-1) <= |value| < 2^e``, in the dtype of the values; ``-inf`` for zero."""
    exponent = torch.frexp(value).exponent.to(value.dtype)
    return torch.where(value == 0, -torch.inf, exponent)


@dataclass(frozen=True, slots=True, eq=False)
class Wide:
    """A tensor of numbers ``value * 2^exponent``."""

    value: Tensor
    """between 1/2 and 1 in modulus, or 0"""
    exponent: Tensor
    """an integer in the dtype of ``value``; ``-inf`` where the number is zero"""

    @classmethod
    def of(cls, value: Tensor, exponent: Tensor | float = 0.0) -> Wide:
        """``value * 2^exponent``."""
        mantissa, own = torch.frexp(value)
        return cls(mantissa, torch.where(mantissa == 0, -torch.inf, own.to(value.dtype) + exponent))

    @classmethod
    def exp(cls, log: Tensor) -> Wide:
        """``exp(log)``, however small or large; zero where the log is ``-inf``."""
        power = (log / LN_2).floor()
        # Beyond 2^52 a log has no fraction left, and the remainder is rounding.
        rest = (log - power * LN_2).clamp(0, LN_2).nan_to_num(0.0).exp()
        return cls.of(torch.where(log.isneginf(), 0.0, rest), power)

    def __mul__(self, other: Wide | Tensor) -> Wide:
        factor = other if isinstance(other, Wide) else Wide.of(other)
        return Wide.of(self.value * factor.value, self.exponent + factor.exponent)

    def __add__(self, other: Wide) -> Wide:
        top = torch.maximum(self.exponent, other.exponent).nan_to_num(neginf=0.0)
        reach = 1000 if top.dtype == torch.float64 else 100  # a smaller number does not change the sum
        first, second = (_power_of_two((each.exponent - top).clamp(-reach, 0)) for each in (self, other))
        return Wide.of(self.value * first + other.value * second, top)

    def __getitem__(self, index: Any) -> Wide:
        return Wide(self.value[index], self.exponent[index])

    def abs(self) -> Wide:
        return Wide(self.value.abs(), self.exponent)

    def over(self, exponent: Tensor) -> Tensor:
        """The numbers divided by ``2^exponent``: zero or infinite where the quotient leaves the range."""
        return times_power_of_two(self.value, (self.exponent - exponent).nan_to_num(nan=0.0))

    def times_power(self, exponent: Tensor) -> Wide:
        """The numbers times ``2^exponent``; an exponent of ``-inf`` makes zeros."""
        return Wide(torch.where(exponent.isneginf(), 0.0, self.value), self.exponent + exponent)

    def log2(self) -> Tensor:
        """The logarithm of the modulus to base 2."""
        return self.value.abs().log2() + self.exponent.nan_to_num(neginf=0.0)


def concatenated(parts: list[Wide]) -> Wide:
    """The numbers next to one another, along the last axis."""
    return Wide(torch.cat([p.value for p in parts], -1), torch.cat([p.exponent for p in parts], -1))


def brought_to_one(numbers: Wide) -> tuple[Tensor, Tensor]:
    """Vectors scaled to a largest entry of about 1, and the powers of two that were taken out.

    Entries that are too small compared with the largest entry become zero.

    Returns:
        ``[..., n]`` and ``[...]``; zero vectors come with the power 0.
    """
    top = numbers.exponent.amax(-1)
    top = torch.where(top.isneginf(), 0.0, top)
    return numbers.over(top[..., None]), top


def scaled_to_one(matrix: Tensor) -> tuple[Tensor, int]:
    """A matrix with the largest entry between 1/2 and 1, and the power of two to multiply it by."""
    largest = float(matrix.abs().max()) if matrix.numel() else 0.0
    power = math.frexp(largest)[1] if math.isfinite(largest) else 0
    return times_power_of_two(matrix, matrix.new_full((), -power)), power


def ldexp(value: float, power: int) -> float:
    """``value * 2^power``, infinite where that overflows."""
    try:
        return math.ldexp(value, power)
    except OverflowError:
        return math.copysign(math.inf, value)


def safe_norm(vectors: Tensor, *, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """``||v||`` over the last axis as ``value * 2^exponent``, even if the squares of entries leave the range."""
    low, high = vectors.aminmax(dim=-1, keepdim=True)
    exponent = binary_exponent(torch.maximum(-low, high))
    reach = 1000 if vectors.dtype == torch.float64 else 120  # after one factor, the rest is small enough to be squared
    exponent = torch.where(exponent.isfinite(), exponent, 0.0).clamp(-reach, reach)
    length = torch.linalg.vector_norm(vectors * _power_of_two(-exponent), dim=-1, keepdim=True)
    return (length, exponent) if keepdim else (length[..., 0], exponent[..., 0])
