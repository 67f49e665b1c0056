"""The LSTM with its full state ``(h, c)``: ``c = f*c- + i*g``, ``h = W_hr (o * tanh c)``.

Most of an LSTM's gradient travels through ``c``; a Jacobian of ``h`` alone forgets in half a step what
the cell remembers for hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnndiag.cells.cell import Linearisation, fused_states, norms, preactivation, sech_squared, sigmoid_slope
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.operators.structured import CarryReadout


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

    def linearise(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearisation:
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
        return Linearisation(
            state_jacobian=CarryReadout(gain, readout, layer.weight_hh, f, layer.weight_hr),
            input_jacobian=CarryReadout(gain, readout, layer.weight_ih, None, layer.weight_hr),
            slopes={"candidate": candidate_slope, "cell output": output_slope},
            gates={"input": i, "forget": f, "output": o},
            operand_norms=norms(previous),
            cell_state=cell_state,
        )


def _scan(state: Tensor, decay: Tensor, drive: Tensor) -> Tensor:
    """``c_t = decay_t c_{t-1} + drive_t`` from ``c_0``: ``[T, B, H]``."""
    states = torch.empty_like(drive)
    for new, kept, added in zip(states.unbind(), decay.unbind(), drive.unbind(), strict=True):
        state = torch.addcmul(added, kept, state, out=new)
    return states
