"""The LSTM with its full state ``(h, c)``: ``c = f*c- + i*g``, ``h = W_hr (o * tanh c)``.

Most of an LSTM's gradient travels through ``c``; a Jacobian of ``h`` alone forgets in half a step what
the cell remembers for hundreds. The gates may be ``hard_sigmoid`` and ``tanh`` may be ReLU (``Form``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnndiag.cells.cell import Linearization, fused_states, log_norms, preactivation
from rnndiag.cells.gate_functions import ACTIVATIONS, GATES
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers
from rnndiag.kinds import PYTORCH_FORM
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import CarryReadout
from rnndiag.operators.wide import concatenated


@dataclass(frozen=True, slots=True)
class LSTM:
    """``nn.LSTM`` and ``nn.LSTMCell``, with or without output projection, and the same with other functions."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.LSTM(
            layer.input_size,
            layer.hidden_size,
            bias=layer.bias_ih is not None,
            proj_size=layer.proj_size,
        )

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        if layer.form == PYTORCH_FORM:
            return fused_states(self.kernel, layer, inputs)
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        h, c = inputs.new_zeros(inputs.shape[1], layer.output_size), inputs.new_zeros(1)
        states = []
        for x in inputs:
            a_i, a_f, a_g, a_o = preactivation(layer, x, h).chunk(4, dim=-1)
            c = gate.value(a_f) * c + gate.value(a_i) * activation.value(a_g)
            h = gate.value(a_o) * activation.value(c)
            h = h if layer.weight_hr is None else h @ layer.weight_hr.T
            states.append(h)
        return torch.stack(states)

    def cell_states(self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, before: Tensor) -> Tensor:
        """``c`` at each step ``[T, B, H]``, from ``previous`` (``h`` one step earlier) and ``before`` (``c_0``)."""
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        a_i, a_f, a_g, _ = preactivation(layer, inputs, previous).chunk(4, dim=-1)
        return scan(before, gate.value(a_f), gate.value(a_i) * activation.value(a_g))

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Differentiates ``(h, c)`` by ``(h-, c-)`` and by ``x`` (Hochreiter & Schmidhuber 1997)."""
        gate, activation = GATES[layer.form.gate], ACTIVATIONS[layer.form.activation]
        a_i, a_f, a_g, a_o = preactivation(layer, inputs, previous).chunk(4, dim=-1)
        i, f, o, g = gate.value(a_i), gate.value(a_f), gate.value(a_o), activation.value(a_g)
        before = torch.zeros_like(f[0]) if beside is None else beside
        cell_state = scan(before, f, i * g)
        cell_before = torch.cat((before[None], cell_state[:-1]))
        read = activation.value(cell_state)
        candidate_slope, output_slope = activation.slope(a_g), activation.slope(cell_state)
        gain = torch.cat(
            (
                g * gate.slope(a_i),
                cell_before * gate.slope(a_f),
                i * candidate_slope,
                read * gate.slope(a_o),
            ),
            dim=-1,
        )
        readout = o * output_slope
        by_state: BatchedOperator = CarryReadout(gain, readout, layer.weight_hh, f, layer.weight_hr)
        by_input: BatchedOperator = CarryReadout(gain, readout, layer.weight_ih, None, layer.weight_hr)
        weights = [layer.weight_hh, layer.weight_ih, *(() if layer.weight_hr is None else (layer.weight_hr,))]
        deep = (*gate.saturating(a_i, a_f, a_o), *activation.saturating(a_g, cell_state))
        if beyond_plain_numbers(weights, gates=deep, factors=(g, cell_state)):
            wide = concatenated(
                [
                    gate.wide_slope(a_i) * g,
                    gate.wide_slope(a_f) * cell_before,
                    gate.wide_value(a_i) * activation.wide_slope(a_g),
                    gate.wide_slope(a_o) * read,
                ]
            )
            at_output, kept = gate.wide_value(a_o) * activation.wide_slope(cell_state), gate.wide_value(a_f)
            by_state = row_scaled.carry_readout(wide, at_output, layer.weight_hh, kept, layer.weight_hr)
            by_input = row_scaled.carry_readout(wide, at_output, layer.weight_ih, None, layer.weight_hr)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"candidate": candidate_slope, "cell output": output_slope},
            gates={"input": i, "forget": f, "output": o},
            keeping_log=gate.log(a_f),
            operand_log_norms=log_norms(previous),
            cell_state=cell_state,
        )


def scan(state: Tensor, decay: Tensor, drive: Tensor) -> Tensor:
    """``c_t = decay_t c_{t-1} + drive_t`` from ``c_0``: ``[T, B, H]``."""
    states = torch.empty_like(drive)
    for new, kept, added in zip(states.unbind(), decay.unbind(), drive.unbind(), strict=True):
        state = torch.addcmul(added, kept, state, out=new)
    return states
