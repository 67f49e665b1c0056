"""Run a layer, or a stack of layers, on a probe: from zero initial states, or from those of a step function."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.cells import cell_of
from rnndiag.cells.cell import Linearisation
from rnndiag.cells.custom import Layer, StepLayer
from rnndiag.cells.layer import RecurrentLayer, Stack


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """One layer driven by inputs, in the layer's own order of time.

    A reverse layer's first step is the last element of the sequence.
    """

    layer: Layer
    inputs: Tensor
    """``[T, B, D]``"""
    hidden: Tensor
    """``h_1 .. h_T``: ``[T, B, R]``"""
    along: Linearisation

    @property
    def length(self) -> int:
        """``T``."""
        return int(self.hidden.shape[0])

    @property
    def batch(self) -> int:
        """``B``."""
        return int(self.hidden.shape[1])

    def first_nonfinite_step(self) -> int | None:
        """The first step, counted from 1, at which a state is NaN or infinite; None if all are finite."""
        states = [self.hidden] if self.along.cell_state is None else [self.hidden, self.along.cell_state]
        finite = torch.stack([s.isfinite().all(-1).all(-1) for s in states]).all(0)
        return None if bool(finite.all()) else int((~finite).nonzero()[0]) + 1


def shifted(hidden: Tensor) -> Tensor:
    """``h_0 .. h_{T-1}`` from ``h_1 .. h_T``, with ``h_0 = 0``."""
    return torch.cat((torch.zeros_like(hidden[:1]), hidden[:-1]))


def run_layer(layer: RecurrentLayer, inputs: Tensor) -> Trajectory:
    """Drive one layer: ``inputs [T, B, D]`` in the sequence's order, whatever the layer's direction."""
    if layer.direction == "reverse":
        inputs = inputs.flip(0)
    cell = cell_of(layer)
    hidden = cell.hidden_states(layer, inputs)
    return Trajectory(layer, inputs, hidden, cell.linearise(layer, inputs, shifted(hidden)))


def run_step(layer: StepLayer, inputs: Tensor) -> Trajectory:
    """Drive a step function from its own initial states: ``inputs [T, B, D]``.

    Raises:
        ModelError: where the step raises.
    """
    states, width = layer.states(inputs), layer.output_size
    along = layer.linearise(inputs, states[:-1])
    beside = states[1:, :, width:] if states.shape[-1] > width else None
    return Trajectory(layer, inputs, states[1:, :, :width], replace(along, cell_state=beside))


def run_stack(stack: Stack, inputs: Tensor) -> tuple[tuple[Trajectory, ...], ...]:
    """Drive a stack bottom up; each level reads the concatenated outputs of the level below.

    Returns:
        A trajectory for each layer, arranged like ``stack.levels``.
    """
    levels = []
    for level in stack.levels:
        runs = tuple(run_layer(layer, inputs) for layer in level)
        levels.append(runs)
        outputs = [r.hidden.flip(0) if r.layer.direction == "reverse" else r.hidden for r in runs]
        inputs = torch.cat(outputs, dim=-1)
    return tuple(levels)
