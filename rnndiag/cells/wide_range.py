"""Decides when the diagonals of a Jacobian need their own exponents, and computes slopes with such exponents.

A plain tensor is enough while the squares of all important entries of a Jacobian stay in the range of the dtype. With
``|a| <= 75`` at a gate and ``|a| <= 150`` at a tanh, the product of two gates and a slope is ``exp(-300)`` or more, and
its square times that of a weight of ``2^-64`` is above the smallest float64. The limits for float32 follow in the same
way from its range.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rnndiag.operators.wide import Wide

GATE_REACH = {torch.float64: 75.0, torch.float32: 8.0}
"""Plain numbers are enough up to this gate preactivation, and up to twice as much where only one slope is a factor."""

WEIGHT_REACH = {torch.float64: 2.0**64, torch.float32: 2.0**16}
"""Plain numbers are enough while the largest entry of each row, and its reciprocal, is at most this large."""


def beyond_plain_numbers(
    weights: Iterable[Tensor],
    gates: Iterable[Tensor] = (),
    slopes: Iterable[Tensor] = (),
    factors: Iterable[Tensor] = (),
) -> bool:
    """Whether a Jacobian needs separate exponents.

    Args:
        weights: the weights whose rows multiply the diagonals; rows of zeros do not matter.
        gates: preactivations of sigmoids, and of everything that gates multiply.
        slopes: preactivations of a tanh whose slope is the only factor.
        factors: other entries of the diagonals.
    """
    sizes = [(weight.abs().amax(-1), WEIGHT_REACH) for weight in weights]
    least = [torch.where(rows > 0, rows, 1.0).amin() * reach[rows.dtype] for rows, reach in sizes]
    most = [rows.amax() / reach[rows.dtype] for rows, reach in sizes]
    most += [_largest(a) / GATE_REACH[a.dtype] for a in gates]
    most += [_largest(a) / (2 * GATE_REACH[a.dtype]) for a in slopes]
    most += [_largest(each) / WEIGHT_REACH[each.dtype] for each in factors]
    return bool(((torch.stack(most) > 1).any()) | (torch.stack(least) < 1).any())  # a single transfer from the device


def _largest(tensor: Tensor) -> Tensor:
    low, high = tensor.aminmax()
    return torch.maximum(-low, high)


def wide_sech_squared(a: Tensor) -> Wide:
    """``tanh'(a) = 4 exp(-2|a|) / (1 + exp(-2|a|))^2``."""
    decay = a.abs() * -2
    return Wide.exp(decay) * (4 / (1 + decay.exp()).square())


def wide_sigmoid(a: Tensor) -> Wide:
    """``sigmoid(a) = exp(min(a, 0)) / (1 + exp(-|a|))``."""
    return Wide.exp(a.clamp_max(0)) * (1 / (1 + (-a.abs()).exp()))


def wide_sigmoid_slope(a: Tensor) -> Wide:
    """``sigmoid'(a) = sigmoid(a) sigmoid(-a)``."""
    return wide_sigmoid(a) * wide_sigmoid(-a)
