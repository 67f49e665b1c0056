"""The GRU as first published: the reset gate multiplies the state, not its product with ``W_hn``.

``n = tanh(W_in x + b_in + W_hn (r * h-) + b_hn)``, ``h = (1-z)*n + z*h-`` (Cho et al. 2014): ONNX with
``linear_before_reset = 0``, Keras with ``reset_after = False``. The gates may be ``hard_sigmoid`` and ``tanh`` may be
ReLU (``Form``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.cell import Linearization, log_norms
from rnndiag.cells.gate_functions import ACTIVATIONS, GATES
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.reset_first import ResetFirst
from rnndiag.operators.wide import concatenated


@dataclass(frozen=True, slots=True)
class GRUResetFirst:
    """No module of PyTorch's has this form."""

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        from_input = _from_input(layer, inputs)
        gates, candidate = layer.weight_hh.split((2 * layer.hidden_size, layer.hidden_size))
        states = inputs.new_empty(*inputs.shape[:2], layer.hidden_size)
        h = torch.zeros_like(states[0])
        for t, drive in enumerate(from_input):
            i_r, i_z, i_n = drive.chunk(3, dim=-1)
            h_r, h_z = (h @ gates.T).chunk(2, dim=-1)
            n = activation.value(torch.addmm(i_n, gate.value(i_r + h_r) * h, candidate.T))
            h = states[t] = torch.lerp(n, h, gate.value(i_z + h_z))
        return states

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Differentiates ``h`` by ``h-`` through r, z, n and the direct term.

        The candidate sees the previous state through ``r * h-``, so ``r`` stands between ``W_hn`` and the state,
        and the reset gate acts through ``W_hn`` too.
        """
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        a_r, a_z, i_n = _from_input(layer, inputs).chunk(3, dim=-1)
        gates, candidate = layer.weight_hh.split((2 * layer.hidden_size, layer.hidden_size))
        h_r, h_z = (previous @ gates.T).chunk(2, dim=-1)
        a_r, a_z = a_r + h_r, a_z + h_z
        r, z, keep_new = gate.value(a_r), gate.value(a_z), gate.value(-a_z)
        seen = r * previous
        a_n = i_n + seen @ candidate.T
        slope, n = activation.slope(a_n), activation.value(a_n)
        b_z = (previous - n) * gate.slope(a_z)
        gain = torch.cat((b_z, keep_new * slope), dim=-1)
        b_r = previous * gate.slope(a_r)
        before = log_norms(previous)
        by_state: BatchedOperator = ResetFirst(gain, b_r, layer.weight_hh, candidate, r, z)
        by_input: BatchedOperator = ResetFirst(gain, b_r, layer.weight_ih, candidate)
        deep = (*gate.saturating(a_r, a_z), *activation.saturating(a_n))
        if beyond_plain_numbers((layer.weight_hh, layer.weight_ih), gates=deep, factors=(n,)):
            at_z = gate.wide_slope(a_z) * (previous - n)
            wide = concatenated([at_z, gate.wide_value(-a_z) * activation.wide_slope(a_n)])
            at_r = gate.wide_slope(a_r) * previous
            kept = (gate.wide_value(a_r), gate.wide_value(a_z))
            by_state = row_scaled.reset_first(wide, at_r, layer.weight_hh, candidate, *kept)
            by_input = row_scaled.reset_first(wide, at_r, layer.weight_ih, candidate)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"candidate": slope},
            gates={"reset": r, "update": z},
            keeping_log=gate.log(a_z),
            operand_log_norms=torch.cat((before, before, log_norms(seen)), dim=-1),
        )


def _from_input(layer: RecurrentLayer, inputs: Tensor) -> Tensor:
    """``W_ih x + b_ih + b_hh``: in this form nothing multiplies ``b_hn``."""
    total = inputs @ layer.weight_ih.T
    for bias in (layer.bias_ih, layer.bias_hh):
        if bias is not None:
            total += bias
    return total
