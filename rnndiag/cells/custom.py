"""A layer that is a user's own step function: states by calling it, Jacobians by automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnndiag.cells.cell import Linearization
from rnndiag.cells.layer import Direction, RecurrentLayer
from rnndiag.cells.step import State, Step, StepFunction, name_of
from rnndiag.cells.step_trial import probe_step
from rnndiag.operators.derivative import Derivative


@dataclass(frozen=True, slots=True, eq=False)
class StepLayer:
    """One step function with its initial states. Its weights, gates and nonlinearity are unknown.

    The first part of the state is its output ``h``, on which gradients are seeded; ``(h, c)`` is then measured like
    an LSTM.
    """

    name: str
    function: StepFunction
    initial: Tensor
    """``[B, S]``, in the dtype and on the device of the measurement"""
    given_dtype: torch.dtype
    """of the initial states as the user gave them"""
    input_size: int
    forward_mode: bool
    """whether ``J v`` can be had by forward-mode differentiation"""
    cell: Literal["custom"] = "custom"
    direction: Direction = "forward"
    nonlinearity_assumed: Literal[False] = False
    proj_size: Literal[0] = 0

    @property
    def hidden_size(self) -> int:
        """``H``: the width of the first part of the state."""
        return self.function.sizes[0]

    @property
    def output_size(self) -> int:
        """``R``, which is ``H``."""
        return self.hidden_size

    @property
    def state_size(self) -> int:
        """``S``: all parts together."""
        return sum(self.function.sizes)

    def states(self, inputs: Tensor) -> Tensor:
        """``s_0 .. s_T``: ``[T, B, D] -> [T+1, B, S]``.

        Raises:
            ModelError: where the step raises.
        """
        states = [self.initial]
        for x in inputs:
            states.append(self.function(states[-1], x).detach())
        return torch.stack(states)

    def linearize(self, inputs: Tensor, previous: Tensor) -> Linearization:
        """The Jacobians from inputs ``[T, B, D]`` and ``[s_0 .. s_{T-1}]``; nothing is differentiated yet."""
        ones = torch.ones_like(previous[..., :1])
        size, forward = self.state_size, self.forward_mode
        return Linearization(
            state_jacobian=Derivative(previous, inputs, ones, self.function, size, "u", forward),
            input_jacobian=Derivative(previous, inputs, ones, self.function, size, "w", forward),
            slopes={},
            gates={},
        )


Layer = RecurrentLayer | StepLayer


def step_layer(step: Step, state: State, initial: Tensor, inputs: Tensor, *, name: str = "") -> StepLayer:
    """Try a step, and make a layer of it.

    Args:
        step: ``(state, x) -> new state``, on a batch or on single vectors.
        state: as the user gave it.
        initial: the same as rows ``[B, S]``, in the dtype and on the device of the measurement.
        inputs: ``[T, B, D]``, likewise.
        name: the name of the layer; empty: the name of the function.

    Raises:
        ModelError: for a step that cannot be measured, with what to do.
    """
    name = name or name_of(step)
    function, forward = probe_step(StepFunction(name, step, state.structure, state.sizes), initial, inputs)
    return StepLayer(name, function, initial, state.dtype, inputs.shape[-1], forward)
