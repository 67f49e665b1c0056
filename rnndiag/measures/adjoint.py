r"""The gradient carried back through time: ``d_{t-1} = J_t^T d_t`` from random unit ``d_T`` on ``h_T``.

Vectors are renormalized at every step and their logarithms summed, so nothing underflows or overflows
however long the sequence. Through a stack the adjoint of level ``i`` receives, at each step, what level
``i+1`` sends down through its input Jacobian; vectors of different scale are added by their logarithms.

Time has two directions in a bidirectional stack. A *seed* sits on the last state of one direction of the
top level, and lags are counted from there in that direction's time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.cell import Linearization
from rnndiag.machine.device import at_once
from rnndiag.measures.scaled_vectors import ScaledVectors
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.row_scaled import RowScaled
from rnndiag.operators.structured import StepJacobian, stacked
from rnndiag.operators.wide import LN_2, Wide, brought_to_one
from rnndiag.trajectory import Trajectory

WINDOW_BYTES = 1 << 20
"""Adjoints at the preactivations of the steps that are looked at together, so that they are still in cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Adjoint:
    """Natural logarithms of norms, relative to the unit seed, for ``R`` draws and ``B`` sequences."""

    states: Tensor
    """``[T, R, B]``: joint norm over the states of all layers at lag 1 .. T"""
    inputs: Tensor
    """``[T, R, B]``: norm at the stack's input at lag 0 .. T-1"""
    weights: Tensor | None = None
    """``[T, R, B]``: norm of the contribution of the step at lag 0 .. T-1 to ``dL/dW_hh`` (a single ``W_hh`` only)"""


def layer_adjoint(run: Trajectory, *, draws: int, generator: torch.Generator) -> Adjoint:
    """The adjoint of one layer alone, from its own last state."""
    windows, seed = _windows(run, draws), _seed(run, draws, generator)
    return _by_lag(_back_through(windows, run.layer.output_size, seed, None, credit=True), run.length)


def nets_gain(runs: Sequence[Trajectory], lag: int, *, draws: int, generators: Sequence[torch.Generator]) -> Tensor:
    """The log norms at one lag of many nets of one layer each, which step back together.

    Args:
        runs: of nets of one shape: the same cell, ``T``, ``B``, ``H``.
        lag: steps back, at most ``T``.
        draws: ``R``.
        generators: of each net's seeds.

    Returns:
        ``[N, R, B]``: for each net ``layer_adjoint(..).states[lag - 1]``.
    """
    seeds = torch.stack([_seed(run, draws, generator) for run, generator in zip(runs, generators, strict=True)])
    last = slice(runs[0].length - lag, None)
    jacobians = [run.along.state_jacobian[last] for run in runs]
    plain = [each for each in jacobians if isinstance(each, StepJacobian)]
    if len(plain) < len(jacobians):  # Jacobians with row exponents are not stacked; such nets are rare
        return torch.stack([_gain(each, seed) for each, seed in zip(jacobians, seeds, strict=True)])
    return _gain(stacked(plain), seeds)


def _gain(jacobian: BatchedOperator, seeds: Tensor) -> Tensor:
    """The log norms of seeds that were propagated back through all steps."""
    carried = ScaledVectors.of(seeds, seeds.new_zeros(seeds.shape[:-1]))
    for t in reversed(range(jacobian.batch[0])):
        carried = ScaledVectors.back(jacobian[t], carried)
    return carried.log_norm()


def stack_adjoint(levels: Sequence[Sequence[Trajectory]], *, draws: int, generator: torch.Generator) -> Adjoint:
    """The adjoint through all levels and both directions.

    Each direction of the top level is seeded in turn. The two are combined as the root mean square,
    which is what a random unit seed on both last states at once has in the mean.
    """
    top = levels[-1]
    sweeps = [_sweep(levels, index, _seed(run, draws, generator)) for index, run in enumerate(top)]
    states = torch.stack([sweep.states for sweep in sweeps])
    inputs = torch.stack([sweep.inputs for sweep in sweeps])
    return Adjoint(_log_rms(states), _log_rms(inputs))


def _sweep(levels: Sequence[Sequence[Trajectory]], seeded: int, seed: Tensor) -> Adjoint:
    direction = levels[-1][seeded].layer.direction
    collected: list[Tensor] = []
    from_above: ScaledVectors | None = None
    for level in reversed(levels):
        sent_down: ScaledVectors | None = None
        start = 0
        for index, run in enumerate(level):
            stop = start + run.layer.output_size
            if from_above is None and index != seeded:
                continue  # beside the seed, nothing reaches the other direction of the top level
            reverse = run.layer.direction == "reverse"
            injected = None if from_above is None else from_above.columns(start, stop)
            injected = injected.flip() if injected is not None and reverse else injected
            parts = list(
                _back_through(
                    _windows(run, len(seed)), run.layer.output_size, seed if from_above is None else None, injected
                )
            )[::-1]
            states = torch.cat([part.states for part in parts])
            inputs = ScaledVectors.cat([part.inputs for part in parts])
            collected.append(_in_the_seeds_time(states, same=run.layer.direction == direction))
            inputs = inputs.flip() if reverse else inputs
            sent_down = inputs if sent_down is None else sent_down + inputs
            start = stop
        from_above = sent_down
    assert from_above is not None  # a stack has at least one level
    at_input = from_above.log_norm()
    joint = torch.logsumexp(2 * torch.stack(collected), dim=0) / 2
    return Adjoint(joint, at_input.flip(0) if direction == "forward" else at_input)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What the way back finds in a window of ``n`` steps, in the layer's own time."""

    states: Tensor
    """``[n, R, B]``: log norms at the states before each step, through the recurrence alone"""
    inputs: ScaledVectors
    """``[n, R, B, D]``: vectors at the steps' inputs"""
    weights: Tensor | None
    """``[n, R, B]``: log norms of the contributions to ``dL/dW_hh``"""


def _windows(run: Trajectory, draws: int) -> Iterator[tuple[int, Linearization]]:
    """A trajectory some steps at a time, each part with its first step, the last part first."""
    span = run.steps_of(at_once(WINDOW_BYTES, run.hidden.device) // draws)
    for start in reversed(range(0, run.length, span)):
        yield start, run.over(start, min(start + span, run.length))


def _back_through(
    windows: Iterable[tuple[int, Linearization]],
    width: int,
    seed: Tensor | None,
    injected: ScaledVectors | None,
    *,
    credit: bool = False,
) -> Iterator[_Part]:
    """Carry a seed and what is injected at ``h_t`` back through one layer.

    Args:
        windows: the layer along its trajectory, the last window first; or many nets together (``stacked``), whose
            vectors are ``[N, R, B, .]`` instead of ``[R, B, .]``.
        width: of the output ``h``, which comes first in the state.
        seed: ``[R, B, S]`` at the last state, or None.
        injected: ``[T, R, B, R_out]`` at each ``h_t``, or None; one of the two is given.
        credit: also give the contributions to ``dL/dW_hh``, if there is a ``W_hh``.

    Yields:
        A part for each window, in their order.
    """
    carried = None if seed is None else ScaledVectors.of(seed, seed.new_zeros(seed.shape[:-1]))
    for start, along in windows:
        if carried is None:
            assert injected is not None
            nothing = injected.value.new_zeros(*injected.value.shape[1:3], along.state_jacobian.shape[0])
            carried = ScaledVectors(nothing, nothing.new_full(nothing.shape[:-1], -torch.inf))
        arrived, carried, states = _back_through_window(along, width, carried, injected, start)
        # Vectors are [n, R, B, .], maps [n, B] and alike for all R; nets together have that axis already.
        one = along if arrived.value.ndim > 4 else along[:, None]
        inputs = ScaledVectors.back(one.input_jacobian, arrived)
        weights = None
        if credit and one.operand_log_norms is not None:
            weights = arrived.log + _log_contribution(one.state_jacobian, arrived.value, one.operand_log_norms)
        yield _Part(states, inputs, weights)


def _back_through_window(
    along: Linearization, width: int, carried: ScaledVectors, injected: ScaledVectors | None, start: int
) -> tuple[ScaledVectors, ScaledVectors, Tensor]:
    """The adjoints that arrive at the window's states, that which leaves it, and the log norms before each step."""
    maps = along.state_jacobian.unbind()
    lead, size = carried.log.shape, carried.value.shape[-1]
    arrived = ScaledVectors(carried.value.new_empty(len(maps), *lead, size), carried.log.new_empty(len(maps), *lead))
    places = zip(maps, arrived.value.unbind(), arrived.log.unbind(), strict=True)
    left = torch.empty_like(arrived.log) if injected is not None else None
    for t, (jacobian, value, log) in reversed(list(enumerate(places))):
        if injected is not None:
            here = injected[start + t]
            carried = carried + ScaledVectors(torch.nn.functional.pad(here.value, (0, size - width)), here.log)
        value.copy_(carried.value)
        log.copy_(carried.log)
        carried = ScaledVectors.back(jacobian, carried)
        if left is not None:
            left[t] = carried.log_norm()
    if left is None:  # nothing is added on the way: what leaves a step arrives at the one before
        left = torch.cat((carried.log_norm()[None], arrived.log_norm()[:-1]))
    return arrived, carried, left


def _log_contribution(jacobian: BatchedOperator, adjoint: Tensor, log_operands: Tensor) -> Tensor:
    """Log norm of what one step adds to ``dL/dW_hh``: ``[..., S]`` and ``[B, K]`` to ``[...]``.

    A block adds the outer product of the adjoint at its preactivation and the vector that it multiplies, whose
    norm is the product of theirs; blocks that multiply the same vector count as one.
    """
    power: Tensor | float = 0.0
    if isinstance(jacobian, RowScaled):
        scattered, shape = jacobian.scattered(adjoint), (log_operands.shape[-1], -1)
        blocks, power = brought_to_one(
            Wide(scattered.value.unflatten(-1, shape), scattered.exponent.unflatten(-1, shape))
        )
    else:
        assert isinstance(jacobian, StepJacobian)  # it has a W_hh
        blocks = jacobian.scatter(adjoint).unflatten(-1, (log_operands.shape[-1], -1))
    logs = torch.linalg.vector_norm(blocks, dim=-1).log() + power * LN_2 + log_operands
    return logs[..., 0] if logs.shape[-1] == 1 else torch.logsumexp(2 * logs, dim=-1) / 2


def _seed(run: Trajectory, draws: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors on ``h_T`` (nothing on ``c_T``): ``[R, B, S]``."""
    width, size = run.layer.output_size, run.state_jacobians.shape[0]
    vectors = torch.randn(draws, run.batch, width, dtype=torch.float64, generator=generator)
    vectors /= torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.nn.functional.pad(vectors, (0, size - width)).to(run.hidden)


def _in_the_seeds_time(states: Tensor, *, same: bool) -> Tensor:
    """Reorder ``s_0 .. s_{T-1}`` of one direction to lags 1 .. T of the seed's direction.

    State ``i`` of the opposite direction belongs to the seed's time ``T + 1 - i``, hence to lag ``i - 1``.
    """
    if same:
        return states.flip(0)
    length = states.shape[0]
    nothing = states.new_full((2, *states.shape[1:]), -torch.inf)
    return torch.cat((states[2:], nothing))[:length]


def _by_lag(parts: Iterable[_Part], length: int) -> Adjoint:
    """The norms of a seed's way back, of whose parts the last comes first.

    Each is written where it belongs at once: small tensors kept between large ones that come and go would leave holes
    in memory, many times as large as they.
    """
    whole: Adjoint | None = None
    stop = 0
    for part in parts:
        if whole is None:
            states = part.states.new_empty(length, *part.states.shape[1:])
            weights = None if part.weights is None else torch.empty_like(states)
            whole = Adjoint(states, torch.empty_like(states), weights)
        start, stop = stop, stop + len(part.states)
        whole.states[start:stop] = part.states.flip(0)
        whole.inputs[start:stop] = part.inputs.log_norm().flip(0)
        if whole.weights is not None and part.weights is not None:
            whole.weights[start:stop] = part.weights.flip(0)
    assert whole is not None  # there is at least one step
    return whole


def _log_rms(logs: Tensor) -> Tensor:
    """Root mean square over the first axis, of quantities given and returned as logarithms."""
    return (torch.logsumexp(2 * logs, dim=0) - math.log(len(logs))) / 2
