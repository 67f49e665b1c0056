"""The Elman net: ``h = phi(W_hh h- + W_ih x + b)`` with tanh or ReLU; ``J = diag(phi') W_hh``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rnndiag.cells.cell import Linearization, fused_states, log_norms, preactivation, sech_squared
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers, wide_sech_squared
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.operators.wide import Wide


@dataclass(frozen=True, slots=True)
class Elman:
    """``nn.RNN`` and ``nn.RNNCell``."""

    nonlinearity: Literal["tanh", "relu"]

    def kernel(self, layer: RecurrentLayer) -> nn.RNNBase:
        """PyTorch's module of this kind and shape, with uninitialised parameters."""
        return nn.RNN(
            layer.input_size,
            layer.hidden_size,
            nonlinearity=self.nonlinearity,
            bias=layer.bias_ih is not None,
        )

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        return fused_states(self.kernel, layer, inputs)

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        a = preactivation(layer, inputs, previous)
        squashed = self.nonlinearity == "tanh"
        slope = sech_squared(a) if squashed else (a > 0).to(a.dtype)
        by_state: BatchedOperator = DiagonalPlusShared(slope, layer.weight_hh)
        by_input: BatchedOperator = DiagonalPlusShared(slope, layer.weight_ih)
        if beyond_plain_numbers((layer.weight_hh, layer.weight_ih), slopes=(a,) if squashed else ()):
            wide = wide_sech_squared(a) if squashed else Wide.of(slope)
            by_state = row_scaled.diagonal_plus_shared(wide, layer.weight_hh)
            by_input = row_scaled.diagonal_plus_shared(wide, layer.weight_ih)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={self.nonlinearity: slope},
            gates={},
            operand_log_norms=log_norms(previous),
        )
