"""Whether a stack out of a file computes what the module that was saved computes."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from rnndiag.cells.layer import Stack
from rnndiag.trajectory import run_stack

MODULES = {
    "tanh": lambda: nn.RNN(3, 5, 2, bidirectional=True),
    "relu": lambda: nn.RNN(3, 5, nonlinearity="relu"),
    "gru": lambda: nn.GRU(3, 5, 2),
    "lstm": lambda: nn.LSTM(3, 5, 2, bidirectional=True),
    "projected": lambda: nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True),
    "bare": lambda: nn.LSTM(3, 5, bias=False),
    "rnn_cell": lambda: nn.RNNCell(3, 5),
    "gru_cell": lambda: nn.GRUCell(3, 5),
    "lstm_cell": lambda: nn.LSTMCell(3, 5),
}
"""One recurrent module of each kind, by a name for the test."""


class Net(nn.Module):
    """A recurrent module among others."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.rnn = rnn
        self.head = nn.Linear(5, 2)


def assert_same_run(stack: Stack, module: nn.Module, *, tolerance: float = 1e-12) -> None:
    """Hold the stack's hidden states on a random probe against the module's own, both in float64."""
    levels = tuple(tuple(layer.to(torch.float64) for layer in level) for level in stack.levels)
    inputs = torch.randn(7, 2, stack.input_size, dtype=torch.float64)
    top = run_stack(replace(stack, levels=levels), inputs)[-1]
    states = [run.hidden.flip(0) if run.layer.direction == "reverse" else run.hidden for run in top]
    torch.testing.assert_close(torch.cat(states, -1), _states(module, inputs), rtol=0, atol=tolerance)


def _states(module: nn.Module, inputs: Tensor) -> Tensor:
    """``h_1 .. h_T`` of the highest level, ``[T, B, R]``, reverse beside forward."""
    module = copy.deepcopy(module).double()
    if not isinstance(module, nn.RNNCellBase):
        output: Tensor = module(inputs)[0].detach()
        return output
    state, states = None, []
    for step in inputs:
        state = module(step, state)
        states.append(state[0] if isinstance(module, nn.LSTMCell) else state)
    return torch.stack(states).detach()
