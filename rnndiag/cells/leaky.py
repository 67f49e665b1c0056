"""The leaky RNN of neuroscience and reservoir computing, in its two forms (Jaeger et al. 2007; Song, Yang & Wang 2016).

The leak ``a`` in (0, 1] is one number or one number per unit: ``dt / tau`` of a continuous-time net, and the leaking
rate of an echo-state network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnndiag.cells.cell import Linearization, log_norms, sech_squared
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers, wide_sech_squared
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.operators.two_sided import DiagonalPlusTwoSided
from rnndiag.operators.wide import Wide

Nonlinearity = Literal["tanh", "relu"]


@dataclass(frozen=True, slots=True)
class Leaky:
    """``h = (1-a) h- + a phi(W_hh h- + W_ih x + b)``; ``J = (1-a) I + a diag(phi') W_hh``."""

    nonlinearity: Nonlinearity

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        alpha, recurrent = _alpha(layer), layer.weight_hh.T
        states = inputs.new_empty(*inputs.shape[:2], layer.hidden_size)
        h = torch.zeros_like(states[0])
        for t, drive in enumerate(_from_input(layer, inputs)):
            target = _squashed(torch.addmm(drive, h, recurrent), self.nonlinearity)
            h = states[t] = torch.lerp(h, target, alpha)
        return states

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        a = _from_input(layer, inputs)
        a += previous @ layer.weight_hh.T
        alpha, squashed = _alpha(layer), self.nonlinearity == "tanh"
        slope = sech_squared(a) if squashed else (a > 0).to(a.dtype)
        keep = (1 - alpha).expand_as(a)
        by_state: BatchedOperator = DiagonalPlusShared(alpha * slope, layer.weight_hh, keep)
        by_input: BatchedOperator = DiagonalPlusShared(alpha * slope, layer.weight_ih)
        if _beyond_plain_numbers(layer, a if squashed else None):
            wide = (wide_sech_squared(a) if squashed else Wide.of(slope)) * alpha
            by_state = row_scaled.diagonal_plus_shared(wide, layer.weight_hh, Wide.of(keep))
            by_input = row_scaled.diagonal_plus_shared(wide, layer.weight_ih)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={self.nonlinearity: slope},
            gates={},
            operand_log_norms=log_norms(previous),
        )


@dataclass(frozen=True, slots=True)
class LeakyCurrent:
    """``v = (1-a) v- + a (W_hh phi(v-) + W_ih x + b)``; ``J = (1-a) I + a W_hh diag(phi'(v-))``.

    The state is ``v``, the current or potential; ``phi(v)`` is the firing rate, which a readout sees.
    """

    nonlinearity: Nonlinearity

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        alpha, recurrent = _alpha(layer), layer.weight_hh.T
        states = inputs.new_empty(*inputs.shape[:2], layer.hidden_size)
        v = torch.zeros_like(states[0])
        for t, drive in enumerate(_from_input(layer, inputs)):
            target = torch.addmm(drive, _squashed(v, self.nonlinearity), recurrent)
            v = states[t] = torch.lerp(v, target, alpha)
        return states

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        alpha, squashed = _alpha(layer), self.nonlinearity == "tanh"
        slope = sech_squared(previous) if squashed else (previous > 0).to(previous.dtype)
        gain, keep = alpha.expand_as(slope), (1 - alpha).expand_as(slope)
        by_state: BatchedOperator = DiagonalPlusTwoSided(gain, layer.weight_hh, slope, keep)
        by_input: BatchedOperator = DiagonalPlusShared(gain, layer.weight_ih)
        if _beyond_plain_numbers(layer, previous if squashed else None):
            wide = wide_sech_squared(previous) if squashed else Wide.of(slope)
            by_state = row_scaled.diagonal_plus_two_sided(Wide.of(gain), layer.weight_hh, wide, Wide.of(keep))
            by_input = row_scaled.diagonal_plus_shared(Wide.of(gain), layer.weight_ih)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={self.nonlinearity: slope},
            gates={},
            operand_log_norms=log_norms(_squashed(previous, self.nonlinearity)),
        )


def _alpha(layer: RecurrentLayer) -> Tensor:
    """``[1]`` or ``[H]``."""
    return layer.extra["alpha"]


def _squashed(values: Tensor, nonlinearity: Nonlinearity) -> Tensor:
    return values.tanh() if nonlinearity == "tanh" else values.relu()


def _from_input(layer: RecurrentLayer, inputs: Tensor) -> Tensor:
    """``W_ih x + b_ih + b_hh``: no gate stands between the two biases."""
    total = inputs @ layer.weight_ih.T
    for bias in (layer.bias_ih, layer.bias_hh):
        if bias is not None:
            total += bias
    return total


def _beyond_plain_numbers(layer: RecurrentLayer, squashed: Tensor | None) -> bool:
    """Whether a Jacobian needs separate exponents; ``squashed`` is what tanh is applied to."""
    weights = (layer.weight_hh, layer.weight_ih, _alpha(layer)[:, None])
    return beyond_plain_numbers(weights, slopes=() if squashed is None else (squashed,))
