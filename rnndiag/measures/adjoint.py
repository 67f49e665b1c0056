r"""The gradient carried back through time: ``d_{t-1} = J_t^T d_t`` from random unit ``d_T`` on ``h_T``.

Vectors are renormalised at every step and their logarithms summed, so nothing underflows or overflows
however long the sequence. Through a stack the adjoint of level ``i`` receives, at each step, what level
``i+1`` sends down through its input Jacobian; vectors of different scale are added by their logarithms.

Time has two directions in a bidirectional stack. A *seed* sits on the last state of one direction of the
top level, and lags are counted from there in that direction's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.cells.cell import Linearisation
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.structured import StepJacobian, stacked
from rnndiag.trajectory import Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Adjoint:
    """Natural logarithms of norms, relative to the unit seed, for ``R`` draws and ``B`` sequences."""

    states: Tensor
    """``[T, R, B]``: joint norm over the states of all layers at lag 1 .. T"""
    inputs: Tensor
    """``[T, R, B]``: norm at the stack's input at lag 0 .. T-1"""
    weights: Tensor | None = None
    """``[T, R, B]``: norm of the contribution of the step at lag 0 .. T-1 to ``dL/dW_hh`` (a single ``W_hh`` only)"""


@dataclass(frozen=True, slots=True, eq=False)
class _Scaled:
    """Vectors ``value * exp(log)``: ``value [..., n]`` of moderate size, ``log [...]``."""

    value: Tensor
    log: Tensor

    @classmethod
    def of(cls, value: Tensor, log: Tensor) -> _Scaled:
        """Bring the largest entry to 1; the zero vector gets ``log = -inf``."""
        size = value.abs().amax(-1)
        unit = value / size.clamp_min(torch.finfo(value.dtype).tiny)[..., None]
        return cls(unit, log + size.log())

    def __add__(self, other: _Scaled) -> _Scaled:
        # The clamp keeps the sum of two zero vectors (-inf each) from becoming NaN.
        top = torch.maximum(self.log, other.log).clamp_min(torch.finfo(self.log.dtype).min)
        left, right = (self.log - top).exp()[..., None], (other.log - top).exp()[..., None]
        return _Scaled.of(self.value * left + other.value * right, top)

    def log_norm(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.value, dim=-1)
        return self.log + norm.log()

    def __getitem__(self, t: int) -> _Scaled:
        return _Scaled(self.value[t], self.log[t])

    def flip(self) -> _Scaled:
        return _Scaled(self.value.flip(0), self.log.flip(0))

    def columns(self, start: int, stop: int) -> _Scaled:
        return _Scaled.of(self.value[..., start:stop], self.log)


def layer_adjoint(run: Trajectory, *, draws: int, generator: torch.Generator) -> Adjoint:
    """The adjoint of one layer alone, from its own last state."""
    states, inputs, weights = _back_through(
        run.along, run.layer.output_size, _seed(run, draws, generator), None, credit=True
    )
    return Adjoint(states.flip(0), inputs.log_norm().flip(0), None if weights is None else weights.flip(0))


def nets_adjoint(
    runs: Sequence[Trajectory], lag: int, *, draws: int, generators: Sequence[torch.Generator]
) -> tuple[Adjoint, ...]:
    """The adjoints of many nets of one layer each, which step back together: as ``layer_adjoint``, up to a lag.

    Args:
        runs: of nets of one shape: the same cell, ``T``, ``B``, ``H``, ``D``.
        lag: steps back, at most ``T``; the adjoints end there.
        draws: ``R``.
        generators: of each net's seeds.
    """
    first = runs[0]
    seeds = torch.stack([_seed(run, draws, generator) for run, generator in zip(runs, generators, strict=True)])
    last = slice(first.length - lag, None)
    along = replace(
        first.along,
        state_jacobian=_stacked([run.along.state_jacobian for run in runs], last),
        input_jacobian=_stacked([run.along.input_jacobian for run in runs], last),
    )
    states, inputs, _ = _back_through(along, first.layer.output_size, seeds, None)
    by_lag, norms = states.flip(0), inputs.log_norm().flip(0)
    return tuple(Adjoint(by_lag[:, net], norms[:, net]) for net in range(len(runs)))


def _stacked(jacobians: Sequence[BatchedOperator], steps: slice) -> BatchedOperator:
    return stacked([jacobian[steps] for jacobian in jacobians if isinstance(jacobian, StepJacobian)])


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
    from_above: _Scaled | None = None
    for level in reversed(levels):
        sent_down: _Scaled | None = None
        start = 0
        for index, run in enumerate(level):
            stop = start + run.layer.output_size
            if from_above is None and index != seeded:
                continue  # beside the seed, nothing reaches the other direction of the top level
            reverse = run.layer.direction == "reverse"
            injected = None if from_above is None else from_above.columns(start, stop)
            injected = injected.flip() if injected is not None and reverse else injected
            states, inputs, _ = _back_through(
                run.along, run.layer.output_size, seed if from_above is None else None, injected
            )
            collected.append(_by_lag(states, same=run.layer.direction == direction))
            inputs = inputs.flip() if reverse else inputs
            sent_down = inputs if sent_down is None else sent_down + inputs
            start = stop
        from_above = sent_down
    assert from_above is not None  # a stack has at least one level
    at_input = from_above.log_norm()
    joint = torch.logsumexp(2 * torch.stack(collected), dim=0) / 2
    return Adjoint(joint, at_input.flip(0) if direction == "forward" else at_input)


def _back_through(
    along: Linearisation, width: int, seed: Tensor | None, injected: _Scaled | None, *, credit: bool = False
) -> tuple[Tensor, _Scaled, Tensor | None]:
    """Carry a seed and what is injected at ``h_t`` back through one layer, in the layer's own time.

    Args:
        along: the layer along its trajectory, or many nets together (``stacked``), whose vectors are ``[N, R, B, .]``
            instead of ``[R, B, .]``.
        width: of the output ``h``, which comes first in the state.
        seed: ``[R, B, S]`` at the last state, or None.
        injected: ``[T, R, B, R_out]`` at each ``h_t``, or None; one of the two is given.
        credit: also return the contributions to ``dL/dW_hh``.

    Returns:
        ``[T, R, B]`` log norms at states ``s_0 .. s_{T-1}`` (through the recurrence alone), the vectors at
        the inputs ``x_1 .. x_T``, and the log norms of the contributions if asked for and there is a ``W_hh``.
    """
    state_jacobian, input_jacobian = along.state_jacobian, along.input_jacobian
    like, length, size = state_jacobian.reference, state_jacobian.batch[0], state_jacobian.shape[0]
    if seed is None:
        assert injected is not None
        seed = like.new_zeros(*injected.value.shape[1:3], size)
        carried = _Scaled(seed, seed.new_full(seed.shape[:-1], -torch.inf))
    else:
        carried = _Scaled.of(seed, seed.new_zeros(seed.shape[:-1]))
    states = like.new_empty(length, *seed.shape[:-1])
    at_inputs = like.new_empty(length, *seed.shape[:-1], input_jacobian.shape[1])
    logs = torch.empty_like(states)
    log_operands = along.operand_norms.log() if credit and along.operand_norms is not None else None
    weights = None if log_operands is None else torch.empty_like(states)
    for t in reversed(range(length)):
        if injected is not None:
            here = injected[t]
            carried = carried + _Scaled(torch.nn.functional.pad(here.value, (0, size - width)), here.log)
        jacobian = state_jacobian[t]
        at_inputs[t] = input_jacobian[t].rmv(carried.value)
        logs[t] = carried.log
        if weights is not None and log_operands is not None and isinstance(jacobian, StepJacobian):
            scattered = jacobian.scatter(carried.value)
            weights[t] = carried.log + _log_contribution(scattered, log_operands[t])
            sent_back = jacobian.rmv_from(carried.value, scattered)
        else:
            sent_back = jacobian.rmv(carried.value)
        carried = _Scaled.of(sent_back, carried.log)
        states[t] = carried.log_norm()
    return states, _Scaled.of(at_inputs, logs), weights


def _log_contribution(scattered: Tensor, log_operands: Tensor) -> Tensor:
    """Log norm of what one step adds to ``dL/dW_hh``: ``[..., K*H]`` and ``[B, K]`` to ``[...]``.

    A block adds the outer product of the adjoint at its preactivation and the vector that it multiplies, whose
    norm is the product of theirs; blocks that multiply the same vector count as one.
    """
    blocks = scattered.unflatten(-1, (log_operands.shape[-1], -1))
    logs = torch.linalg.vector_norm(blocks, dim=-1).log() + log_operands
    return logs[..., 0] if logs.shape[-1] == 1 else torch.logsumexp(2 * logs, dim=-1) / 2


def _seed(run: Trajectory, draws: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors on ``h_T`` (nothing on ``c_T``): ``[R, B, S]``."""
    width, size = run.layer.output_size, run.along.state_jacobian.shape[0]
    vectors = torch.randn(draws, run.batch, width, dtype=torch.float64, generator=generator)
    vectors /= torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.nn.functional.pad(vectors, (0, size - width)).to(run.hidden)


def _by_lag(states: Tensor, *, same: bool) -> Tensor:
    """Reorder ``s_0 .. s_{T-1}`` of one direction to lags 1 .. T of the seed's direction.

    State ``i`` of the opposite direction belongs to the seed's time ``T + 1 - i``, hence to lag ``i - 1``.
    """
    if same:
        return states.flip(0)
    length = states.shape[0]
    nothing = states.new_full((2, *states.shape[1:]), -torch.inf)
    return torch.cat((states[2:], nothing))[:length]


def _log_rms(logs: Tensor) -> Tensor:
    """Root mean square over the first axis, of quantities given and returned as logarithms."""
    count = torch.tensor(float(logs.shape[0]), dtype=logs.dtype, device=logs.device)
    return (torch.logsumexp(2 * logs, dim=0) - count.log()) / 2
