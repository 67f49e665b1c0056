"""The Elman net: ``h = phi(W_hh h- + W_ih x + b)`` with tanh or ReLU; ``J = diag(phi') W_hh``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rnndiag.cells.cell import Linearisation, fused_states, norms, preactivation, sech_squared
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.operators.structured import DiagonalPlusShared


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

    def linearise(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearisation:
        a = preactivation(layer, inputs, previous)
        slope = sech_squared(a) if self.nonlinearity == "tanh" else (a > 0).to(a.dtype)
        return Linearisation(
            state_jacobian=DiagonalPlusShared(slope, layer.weight_hh),
            input_jacobian=DiagonalPlusShared(slope, layer.weight_ih),
            slopes={self.nonlinearity: slope},
            gates={},
            operand_norms=norms(previous),
        )
