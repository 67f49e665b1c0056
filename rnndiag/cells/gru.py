"""The GRU in PyTorch's form.

``q = W_hn h- + b_hn``, ``n = tanh(W_in x + b_in + r*q)``, ``h = (1-z)*n + z*h-``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnndiag.cells.cell import Linearisation, fused_states, norms, sech_squared, sigmoid_slope
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.operators.structured import DiagonalPlusShared


@dataclass(frozen=True, slots=True)
class GRU:
    """``nn.GRU`` and ``nn.GRUCell``."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.GRU(layer.input_size, layer.hidden_size, bias=layer.bias_ih is not None)

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        return fused_states(self.kernel, layer, inputs)

    def linearise(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearisation:
        """Differentiates ``h`` by ``h-`` through r, z, n and the direct term (Cho et al. 2014).

        The new gate sees the previous state through ``r*q`` and the input directly, so its diagonal
        carries a factor ``r`` in the state's Jacobian that the input's lacks.
        """
        from_input = inputs @ layer.weight_ih.T
        from_state = previous @ layer.weight_hh.T
        if layer.bias_ih is not None:
            from_input += layer.bias_ih
        if layer.bias_hh is not None:
            from_state += layer.bias_hh
        i_r, i_z, i_n = from_input.chunk(3, dim=-1)
        h_r, h_z, q = from_state.chunk(3, dim=-1)
        a_r, a_z = i_r + h_r, i_z + h_z
        r, z, keep_new = a_r.sigmoid(), a_z.sigmoid(), (-a_z).sigmoid()
        a_n = i_n + r * q
        slope = sech_squared(a_n)
        b_n = keep_new * slope
        b_r = b_n * q * sigmoid_slope(a_r)
        b_z = (previous - a_n.tanh()) * sigmoid_slope(a_z)
        return Linearisation(
            state_jacobian=DiagonalPlusShared(torch.cat((b_r, b_z, b_n * r), -1), layer.weight_hh, z, 3),
            input_jacobian=DiagonalPlusShared(torch.cat((b_r, b_z, b_n), -1), layer.weight_ih, None, 3),
            slopes={"candidate": slope},
            gates={"reset": r, "update": z},
            operand_norms=norms(previous),
        )
