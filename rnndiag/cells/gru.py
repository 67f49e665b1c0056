"""The GRU in PyTorch's form.

``q = W_hn h- + b_hn``, ``n = tanh(W_in x + b_in + r*q)``, ``h = (1-z)*n + z*h-``. The gates may be ``hard_sigmoid`` and
``tanh`` may be ReLU (``Form``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnndiag.cells.cell import Linearization, fused_states, log_norms
from rnndiag.cells.gate_functions import ACTIVATIONS, GATES
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers
from rnndiag.kinds import PYTORCH_FORM
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.operators.wide import concatenated


@dataclass(frozen=True, slots=True)
class GRU:
    """``nn.GRU`` and ``nn.GRUCell``, and the same with other functions."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.GRU(layer.input_size, layer.hidden_size, bias=layer.bias_ih is not None)

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        if layer.form == PYTORCH_FORM:
            return fused_states(self.kernel, layer, inputs)
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        h = inputs.new_zeros(inputs.shape[1], layer.hidden_size)
        states = []
        for x in inputs:
            from_input, from_state = _parts(layer, x, h)
            i_r, i_z, i_n = from_input.chunk(3, dim=-1)
            h_r, h_z, q = from_state.chunk(3, dim=-1)
            a_z = i_z + h_z
            n = activation.value(i_n + gate.value(i_r + h_r) * q)
            h = gate.value(-a_z) * n + gate.value(a_z) * h
            states.append(h)
        return torch.stack(states)

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Differentiates ``h`` by ``h-`` through r, z, n and the direct term (Cho et al. 2014).

        The new gate sees the previous state through ``r*q`` and the input directly, so its diagonal
        carries a factor ``r`` in the state's Jacobian that the input's lacks.
        """
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        from_input, from_state = _parts(layer, inputs, previous)
        i_r, i_z, i_n = from_input.chunk(3, dim=-1)
        h_r, h_z, q = from_state.chunk(3, dim=-1)
        a_r, a_z = i_r + h_r, i_z + h_z
        r, z, keep_new = gate.value(a_r), gate.value(a_z), gate.value(-a_z)
        a_n = i_n + r * q
        slope, n = activation.slope(a_n), activation.value(a_n)
        b_n = keep_new * slope
        b_r = b_n * q * gate.slope(a_r)
        b_z = (previous - n) * gate.slope(a_z)
        by_state: BatchedOperator = DiagonalPlusShared(torch.cat((b_r, b_z, b_n * r), -1), layer.weight_hh, z, 3)
        by_input: BatchedOperator = DiagonalPlusShared(torch.cat((b_r, b_z, b_n), -1), layer.weight_ih, None, 3)
        deep = (*gate.saturating(a_r, a_z), *activation.saturating(a_n))
        if beyond_plain_numbers((layer.weight_hh, layer.weight_ih), gates=deep, factors=(q, n)):
            at_n = gate.wide_value(-a_z) * activation.wide_slope(a_n)
            at_r = at_n * q * gate.wide_slope(a_r)
            at_z = gate.wide_slope(a_z) * (previous - n)
            gain = concatenated([at_r, at_z, at_n * gate.wide_value(a_r)])
            by_state = row_scaled.diagonal_plus_shared(gain, layer.weight_hh, gate.wide_value(a_z), 3)
            by_input = row_scaled.diagonal_plus_shared(concatenated([at_r, at_z, at_n]), layer.weight_ih, None, 3)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"candidate": slope},
            gates={"reset": r, "update": z},
            keeping_log=gate.log(a_z),
            operand_log_norms=log_norms(previous),
        )


def _parts(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """``W_ih x + b_ih`` and ``W_hh h- + b_hh``."""
    from_input = inputs @ layer.weight_ih.T
    from_state = previous @ layer.weight_hh.T
    if layer.bias_ih is not None:
        from_input += layer.bias_ih
    if layer.bias_hh is not None:
        from_state += layer.bias_hh
    return from_input, from_state
