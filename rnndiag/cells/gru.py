"""The GRU in PyTorch's form.

``q = W_hn h- + b_hn``, ``n = tanh(W_in x + b_in + r*q)``, ``h = (1-z)*n + z*h-``. The gates may be ``hard_sigmoid`` and
``tanh`` may be ReLU (``Form``). Both parts of the preactivations may be normalized, or their sum; ``r`` then multiplies
the whole normalized sum, as in Dreamer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnndiag.cells.cell import Linearization, fused_states, log_norms
from rnndiag.cells.gate_functions import ACTIVATIONS, GATES
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.normalization import Normalized, norm_of, normed_parts, preactivations
from rnndiag.cells.wide_range import beyond_plain_numbers
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.normed import NormedShared, centered
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.operators.wide import Wide, concatenated


@dataclass(frozen=True, slots=True)
class GRU:
    """``nn.GRU`` and ``nn.GRUCell``, and the same with other functions."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.GRU(layer.input_size, layer.hidden_size, bias=layer.bias_ih is not None)

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        if layer.kind.of_pytorch:
            return fused_states(self.kernel, layer, inputs)
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        h = inputs.new_zeros(inputs.shape[1], layer.hidden_size)
        states = []
        for x in inputs:
            from_input, from_state = normed_parts(layer, x, h)
            i_r, i_z, i_n = from_input.chunk(3, dim=-1)
            h_r, h_z, q = from_state.chunk(3, dim=-1)
            a_z = _keeping(layer, i_z + h_z)
            n = activation.value(i_n + gate.value(i_r + h_r) * q)
            h = gate.value(-a_z) * n + gate.value(a_z) * h
            states.append(h)
        return torch.stack(states)

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Differentiates ``h`` by ``h-`` through r, z, n and the direct term (Cho et al. 2014).

        The new gate sees the previous state through ``r*q`` and the input directly, so its diagonal
        carries a factor ``r`` in the state's Jacobian that the input's lacks. Where the sum of both parts is
        normalized, ``q`` is the whole sum.
        """
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        found = preactivations(layer, inputs, previous)
        joint = norm_of(layer, "sum") is not None
        i_r, i_z, i_n = found.from_input.chunk(3, dim=-1)
        h_r, h_z, q = found.from_state.chunk(3, dim=-1)
        a_r, a_z = i_r + h_r, _keeping(layer, i_z + h_z)
        r, z, keep_new = gate.value(a_r), gate.value(a_z), gate.value(-a_z)
        a_n = i_n + r * q
        slope, n = activation.slope(a_n), activation.value(a_n)
        replaced = previous - n if not layer.form.update_replaces else n - previous
        weights = (layer.weight_hh, layer.weight_ih)
        deep = (*gate.saturating(a_r, a_z), *activation.saturating(a_n))
        gains = [norm.gain for norm in (found.by_state, found.by_input) if norm is not None]
        if beyond_plain_numbers(weights, gates=deep, factors=(q, n, *gains)):
            at_n = gate.wide_value(-a_z) * activation.wide_slope(a_n)
            at_r, at_z = at_n * q * gate.wide_slope(a_r), gate.wide_slope(a_z) * replaced
            through_r = concatenated([at_r, at_z, at_n * gate.wide_value(a_r)])
            direct = through_r if joint else concatenated([at_r, at_z, at_n])
            by_state = _wide_jacobian(through_r, layer.weight_hh, found.by_state, gate.wide_value(a_z))
            by_input = _wide_jacobian(direct, layer.weight_ih, found.by_input, None)
        else:
            b_n = keep_new * slope
            b_r, b_z = b_n * q * gate.slope(a_r), replaced * gate.slope(a_z)
            gain = torch.cat((b_r, b_z, b_n * r), -1)
            by_state = _jacobian(gain, layer.weight_hh, found.by_state, z)
            gain = gain if joint else torch.cat((b_r, b_z, b_n), -1)
            by_input = _jacobian(gain, layer.weight_ih, found.by_input, None)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"candidate": slope},
            gates={"reset": r, "update": z},
            keeping_log=gate.log(a_z),
            operand_log_norms=log_norms(previous),
        )


def _keeping(layer: RecurrentLayer, a: Tensor) -> Tensor:
    """The preactivation of the gate that multiplies the old state, from that of the update gate."""
    return -(a + layer.form.update_bias) if layer.form.update_replaces else a


def _jacobian(gain: Tensor, weight: Tensor, norm: Normalized | None, carry: Tensor | None) -> BatchedOperator:
    if norm is None:
        return DiagonalPlusShared(gain, weight, carry, 3)
    return NormedShared(
        gain=gain * norm.gain,
        weight=centered(weight, norm.groups),
        direction=norm.direction,
        groups=norm.groups,
        carry=carry,
    )


def _wide_jacobian(gain: Wide, weight: Tensor, norm: Normalized | None, carry: Wide | None) -> BatchedOperator:
    if norm is None:
        return row_scaled.diagonal_plus_shared(gain, weight, carry, 3)
    return row_scaled.normed_shared(gain * norm.gain, centered(weight, norm.groups), norm.direction, norm.groups, carry)
