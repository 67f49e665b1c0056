"""The GRU in PyTorch's form.

``q = W_hn h- + b_hn``, ``n = tanh(W_in x + b_in + r*q)``, ``h = (1-z)*n + z*h-``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from rnndiag.cells.cell import Linearization, fused_states, log_norms, sech_squared, sigmoid_slope
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers, wide_sech_squared, wide_sigmoid, wide_sigmoid_slope
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.operators.wide import concatenated


@dataclass(frozen=True, slots=True)
class GRU:
    """``nn.GRU`` and ``nn.GRUCell``."""

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.GRU(layer.input_size, layer.hidden_size, bias=layer.bias_ih is not None)

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        return fused_states(self.kernel, layer, inputs)

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
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
        by_state: BatchedOperator = DiagonalPlusShared(torch.cat((b_r, b_z, b_n * r), -1), layer.weight_hh, z, 3)
        by_input: BatchedOperator = DiagonalPlusShared(torch.cat((b_r, b_z, b_n), -1), layer.weight_ih, None, 3)
        if beyond_plain_numbers((layer.weight_hh, layer.weight_ih), gates=(a_r, a_z, a_n), factors=(q,)):
            at_n = wide_sigmoid(-a_z) * wide_sech_squared(a_n)
            at_r = at_n * q * wide_sigmoid_slope(a_r)
            at_z = wide_sigmoid_slope(a_z) * (previous - a_n.tanh())
            gain = concatenated([at_r, at_z, at_n * wide_sigmoid(a_r)])
            by_state = row_scaled.diagonal_plus_shared(gain, layer.weight_hh, wide_sigmoid(a_z), 3)
            by_input = row_scaled.diagonal_plus_shared(concatenated([at_r, at_z, at_n]), layer.weight_ih, None, 3)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"candidate": slope},
            gates={"reset": r, "update": z},
            keeping_log=logsigmoid(a_z),
            operand_log_norms=log_norms(previous),
        )
