"""Run a layer, or a stack of layers, on a probe: from zero initial states, or from those of a step function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.cells import cell_of
from rnndiag.cells.cell import CellWithCellState, Linearization
from rnndiag.cells.custom import Layer, StepLayer
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.machine.device import at_once
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.chain import Chain

HELD_BYTES = 32 << 20
"""Preactivations of a trajectory up to which its linearization is held; one has five to ten tensors of their size."""

WINDOW_BYTES = 8 << 20
"""Preactivations of the steps that are linearized at a time where it is not held."""


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """One layer driven by inputs, in the layer's own order of time.

    A reverse layer's first step is the last element of the sequence. States are held for all steps; the linearization
    of a long trajectory is made again, a window of steps at a time, for each measure that asks for it.
    """

    layer: Layer
    inputs: Tensor
    """``[T, B, D]``"""
    hidden: Tensor
    """``h_1 .. h_T``: ``[T, B, R]``"""
    held: Linearization | None
    """of all steps; None where the trajectory is long"""
    cell_state: Tensor | None = None
    """What the states hold beside ``h``: ``[T, B, S-R]``, the LSTM's ``c``"""

    @property
    def length(self) -> int:
        """``T``."""
        return int(self.hidden.shape[0])

    @property
    def batch(self) -> int:
        """``B``."""
        return int(self.hidden.shape[1])

    @property
    def span(self) -> int:
        """Steps that are linearized at a time: all of them where that is held."""
        return self.length if self.held is not None else self.steps_of(at_once(WINDOW_BYTES, self.hidden.device))

    def steps_of(self, size: int) -> int:
        """Steps whose preactivations take so many bytes, at least one."""
        return _steps_of(size, self.layer, self.inputs)

    @property
    def along(self) -> Linearization:
        """The linearization of all steps at once, which a long trajectory may be too long for."""
        return self.over(0, self.length)

    @property
    def state_jacobians(self) -> Chain[BatchedOperator]:
        """``ds_t/ds_{t-1}`` of all steps, a window at a time."""
        return Chain(lambda start, stop: self.over(start, stop).state_jacobian, self.length, self.span)

    def over(self, start: int, stop: int) -> Linearization:
        """The linearization of the steps from ``start + 1`` to ``stop``."""
        if self.held is not None:
            return self.held if (start, stop) == (0, self.length) else self.held[start:stop]
        assert isinstance(self.layer, RecurrentLayer)  # that of a step function is always held
        beside = None if self.cell_state is None or start == 0 else self.cell_state[start - 1]
        previous = shifted(self.hidden[:stop]) if start == 0 else self.hidden[start - 1 : stop - 1]
        return cell_of(self.layer).linearize(self.layer, self.inputs[start:stop], previous, beside)

    def windows(self) -> Iterator[Linearization]:
        """The linearizations of all windows, from the first step on."""
        return (self.over(start, min(start + self.span, self.length)) for start in range(0, self.length, self.span))

    def first_nonfinite_step(self) -> int | None:
        """The first step, counted from 1, at which a state is NaN or infinite; None if all are finite."""
        states = [self.hidden] if self.cell_state is None else [self.hidden, self.cell_state]
        finite = torch.stack([s.isfinite().all(-1).all(-1) for s in states]).all(0)
        return None if bool(finite.all()) else int((~finite).nonzero()[0]) + 1


def shifted(hidden: Tensor) -> Tensor:
    """``h_0 .. h_{T-1}`` from ``h_1 .. h_T``, with ``h_0 = 0``."""
    return torch.cat((torch.zeros_like(hidden[:1]), hidden[:-1]))


def run_layer(layer: RecurrentLayer, inputs: Tensor) -> Trajectory:
    """Drive one layer: ``inputs [T, B, D]`` in the sequence's order, whatever the layer's direction."""
    if len(inputs) > _steps_of(at_once(HELD_BYTES, inputs.device), layer, inputs):
        return run_states(layer, inputs)
    if layer.direction == "reverse":
        inputs = inputs.flip(0)
    cell = cell_of(layer)
    hidden = cell.hidden_states(layer, inputs)
    held = cell.linearize(layer, inputs, shifted(hidden))
    return Trajectory(layer, inputs, hidden, held, held.cell_state)


def run_states(layer: RecurrentLayer, inputs: Tensor) -> Trajectory:
    """Compute the states as ``run_layer`` does, without a linearization. This works in every floating dtype."""
    if layer.direction == "reverse":
        inputs = inputs.flip(0)
    cell = cell_of(layer)
    run = Trajectory(layer, inputs, cell.hidden_states(layer, inputs), None)
    return replace(run, cell_state=_cell_states(run, cell)) if isinstance(cell, CellWithCellState) else run


def _cell_states(run: Trajectory, cell: CellWithCellState) -> Tensor:
    """An LSTM's ``c_1 .. c_T``, each window from the last ``c`` of the window before."""
    assert isinstance(run.layer, RecurrentLayer)
    states = run.hidden.new_empty(run.length, run.batch, run.layer.hidden_size)
    previous = shifted(run.hidden)
    for start in range(0, run.length, run.span):
        stop = min(start + run.span, run.length)
        before = states[start - 1] if start else torch.zeros_like(states[0])
        states[start:stop] = cell.cell_states(run.layer, run.inputs[start:stop], previous[start:stop], before)
    return states


def _steps_of(size: int, layer: Layer, inputs: Tensor) -> int:
    rows = len(layer.gates) * layer.hidden_size if isinstance(layer, RecurrentLayer) else layer.state_size
    return max(1, size // (rows * inputs.shape[1] * inputs.element_size()))


def run_step(layer: StepLayer, inputs: Tensor) -> Trajectory:
    """Drive a step function from its own initial states: ``inputs [T, B, D]``.

    Raises:
        ModelError: where the step raises.
    """
    states, width = layer.states(inputs), layer.output_size
    beside = states[1:, :, width:] if states.shape[-1] > width else None
    along = replace(layer.linearize(inputs, states[:-1]), cell_state=beside)
    return Trajectory(layer, inputs, states[1:, :, :width], along, beside)


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
        inputs = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
    return tuple(levels)
