"""The linear net: ``h = W_hh h- + W_ih x + b``; ``J = W_hh`` at every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.cell import Linearization, log_norms
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.wide_range import beyond_plain_numbers
from rnndiag.operators import row_scaled
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.operators.wide import Wide


@dataclass(frozen=True, slots=True)
class Linear:
    """An Elman net without a nonlinearity, such as that of PyTorch's first char-rnn tutorials."""

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        drives = inputs @ layer.weight_ih.T
        for bias in (layer.bias_ih, layer.bias_hh):
            if bias is not None:
                drives += bias
        states, recurrent = torch.empty_like(drives), layer.weight_hh.T
        h = torch.zeros_like(drives[0])
        for t, drive in enumerate(drives):
            h = states[t] = torch.addmm(drive, h, recurrent)
        return states

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        slope = torch.ones_like(previous)
        by_state: BatchedOperator = DiagonalPlusShared(slope, layer.weight_hh)
        by_input: BatchedOperator = DiagonalPlusShared(slope, layer.weight_ih)
        if beyond_plain_numbers((layer.weight_hh, layer.weight_ih)):
            by_state = row_scaled.diagonal_plus_shared(Wide.of(slope), layer.weight_hh)
            by_input = row_scaled.diagonal_plus_shared(Wide.of(slope), layer.weight_ih)
        return Linearization(
            state_jacobian=by_state,
            input_jacobian=by_input,
            slopes={"linear": slope},
            gates={},
            operand_log_norms=log_norms(previous),
        )
