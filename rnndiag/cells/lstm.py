"""The LSTM with its full state ``(h, c)``: ``c = f*c- + i*g``, ``h = W_hr (o * tanh c)``.

Most of an LSTM's gradient travels through ``c``; a Jacobian of ``h`` alone forgets in half a step what
the cell remembers for hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from rnndiag.cells.cell import Linearization, fused_states, log_norms, preactivation, sech_squared, sigmoid_slope
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers, wide_sech_squared, wide_sigmoid, wide_sigmoid_slope
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import CarryReadout
from rnndiag.operators.wide import concatenated


@dataclass(frozen=True, slots=True)
class LSTM:
    """``nn.LSTM`` and ``nn.LSTMCell``, with or without output projection."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.LSTM(
            layer.input_size,
            layer.hidden_size,
            bias=layer.bias_ih is not None,
            proj_size=layer.proj_size,
        )

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        return fused_states(self.kernel, layer, inputs)

    def cell_states(self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, before: Tensor) -> Tensor:
        """``c`` at each step ``[T, B, H]``, from ``previous`` (``h`` one step earlier) and ``before`` (``c_0``)."""
        a_i, a_f, a_g, _ = preactivation(layer, inputs, previous).chunk(4, dim=-1)
        return _scan(before, a_f.sigmoid(), a_i.sigmoid() * a_g.tanh())

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Differentiates ``(h, c)`` by ``(h-, c-)`` and by ``x`` (Hochreiter & Schmidhuber 1997)."""
        a_i, a_f, a_g, a_o = preactivation(layer, inputs, previous).chunk(4, dim=-1)
        i, f, o, g = a_i.sigmoid(), a_f.sigmoid(), a_o.sigmoid(), a_g.tanh()
        before = torch.zeros_like(f[0]) if beside is None else beside
        cell_state = _scan(before, f, i * g)
        cell_before = torch.cat((before[None], cell_state[:-1]))
        candidate_slope, output_slope = sech_squared(a_g), sech_squared(cell_state)
        gain = torch.cat(
            (
                g * sigmoid_slope(a_i),
                cell_before * sigmoid_slope(a_f),
                i * candidate_slope,
                cell_state.tanh() * sigmoid_slope(a_o),
            ),
            dim=-1,
        )
        readout = o * output_slope
        by_state: BatchedOperator = CarryReadout(gain, readout, layer.weight_hh, f, layer.weight_hr)
        by_input: BatchedOperator = CarryReadout(gain, readout, layer.weight_ih, None, layer.weight_hr)
        weights = [layer.weight_hh, layer.weight_ih, *(() if layer.weight_hr is None else (layer.weight_hr,))]
        if beyond_plain_numbers(weights, gates=(a_i, a_f, a_g, a_o, cell_state)):
            wide = concatenated(
                [
                    wide_sigmoid_slope(a_i) * g,
                    wide_sigmoid_slope(a_f) * cell_before,
                    wide_sigmoid(a_i) * wide_sech_squared(a_g),
                    wide_sigmoid_slope(a_o) * cell_state.tanh(),
                ]
            )
            at_output, kept = wide_sigmoid(a_o) * wide_sech_squared(cell_state), wide_sigmoid(a_f)
            by_state = row_scaled.carry_readout(wide, at_output, layer.weight_hh, kept, layer.weight_hr)
            by_input = row_scaled.carry_readout(wide, at_output, layer.weight_ih, None, layer.weight_hr)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"candidate": candidate_slope, "cell output": output_slope},
            gates={"input": i, "forget": f, "output": o},
            keeping_log=logsigmoid(a_f),
            operand_log_norms=log_norms(previous),
            cell_state=cell_state,
        )


def _scan(state: Tensor, decay: Tensor, drive: Tensor) -> Tensor:
    """``c_t = decay_t c_{t-1} + drive_t`` from ``c_0``: ``[T, B, H]``."""
    states = torch.empty_like(drive)
    for new, kept, added in zip(states.unbind(), decay.unbind(), drive.unbind(), strict=True):
        state = torch.addcmul(added, kept, state, out=new)
    return states
