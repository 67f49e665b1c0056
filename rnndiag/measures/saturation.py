"""Saturation of the squashing nonlinearities, dead units, and gates that no longer move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.config.settings import Thresholds
from rnndiag.kinds import KINDS
from rnndiag.measures.statistics import median
from rnndiag.trajectory import Trajectory

STILL = 2.0**-23
"""A unit whose values differ by no more than this share of its own largest value is constant: that is one rounding in
float32, the precision in which nets are usually run."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """Share of ``(t, b, unit)`` whose slope ``phi'`` lies under the threshold.

    The nonlinearity is tanh or ReLU (where a zero slope means inactive) of an Elman net and the
    candidate's tanh of a gated cell.
    """

    rate: float
    per_step: tuple[float, ...]
    per_unit: tuple[float, ...]
    threshold: float
    by_nonlinearity: dict[str, float]
    """the rate of each squashing nonlinearity on the gradient's way"""
    saturated_units: int
    """units saturated at every step of every sequence"""
    dead_units: int
    """Units that are constant over all steps and sequences, although the inputs vary. A ReLU unit whose preactivation
    is never above zero is one of them."""
    steps: tuple[int, ...] | None = None
    """the steps that ``per_step`` is given at, from 1; None: every step"""


@dataclass(frozen=True, slots=True)
class Gate:
    """One sigmoid gate over all steps, sequences and units."""

    mean: float
    open: float
    """share over 0.95"""
    closed: float
    """share under 0.05"""
    time_constant: float | None
    """``-1 / mean log g`` of the gate that keeps the old state: steps, median over units; else None"""
    time_constant_max: float | None
    """the same of the unit that keeps longest"""


def saturation_rate(run: Trajectory, thresholds: Thresholds) -> float:
    """The share of the main nonlinearity's slopes under the threshold: ``Saturation.rate``, for any cell."""
    slopes = (next(iter(along.slopes.values())) for along in run.windows())
    return _share(sum(int((slope < thresholds.saturated_slope).sum()) for slope in slopes), run)


def _share(count: int, run: Trajectory) -> float:
    """A count of ``(t, b, unit)`` as a share of all of them."""
    return count / (run.length * run.batch * run.layer.hidden_size)


def saturation(run: Trajectory, thresholds: Thresholds) -> Saturation:
    """Count saturated and dead units along a trajectory."""
    counts: dict[str, Tensor] = {}
    per_step = []
    for along in run.windows():
        for name, slope in along.slopes.items():
            under = slope < thresholds.saturated_slope
            if name == next(iter(along.slopes)):
                per_step.append(under.sum((1, 2)))
            by_unit = under.sum((0, 1))
            counts[name] = counts[name] + by_unit if name in counts else by_unit
    counts = {name: by_unit.cpu() for name, by_unit in counts.items()}
    seen = run.length * run.batch
    rates = {name: _share(int(by_unit.sum()), run) for name, by_unit in counts.items()}
    main = next(iter(counts))
    return Saturation(
        rate=rates[main],
        per_step=tuple((torch.cat(per_step).cpu().double() / (run.batch * run.layer.hidden_size)).tolist()),
        per_unit=tuple((counts[main].double() / seen).tolist()),
        threshold=thresholds.saturated_slope,
        by_nonlinearity=rates,
        saturated_units=int((counts[main] == seen).sum()),
        dead_units=_dead_units(run),
    )


def gates(run: Trajectory, thresholds: Thresholds) -> dict[str, Gate]:
    """Openness of each gate by name; empty for Elman nets."""
    keeping = KINDS[run.layer.cell].family.keeping
    sums: dict[str, Tensor] = {}
    for along in run.windows():
        for name, values in along.gates.items():
            logs = along.keeping_log if name == keeping else torch.zeros_like(values)
            assert logs is not None  # a cell with this gate has its logarithm
            each = (values, values > thresholds.gate_open, values < thresholds.gate_closed, logs)
            by_unit = torch.stack([of.to(values.dtype).sum((0, 1)) for of in each])
            sums[name] = sums[name] + by_unit if name in sums else by_unit
    seen = run.length * run.batch
    return {name: _gate(by_unit / seen, keeping=name == keeping) for name, by_unit in sums.items()}


def _gate(means: Tensor, *, keeping: bool) -> Gate:
    """From means by unit of value, open, closed and log: ``[4, H]``."""
    mean, opened, closed, _ = means.mean(1).tolist()
    constants = means[3].abs().reciprocal() if keeping else None
    return Gate(
        mean=mean,
        open=opened,
        closed=closed,
        time_constant=None if constants is None else float(median(constants)),
        time_constant_max=None if constants is None else float(constants.max()),
    )


def _dead_units(run: Trajectory) -> int:
    """Count the constant units, each judged by its own values (an LSTM's by ``c``)."""
    if not bool((run.inputs != run.inputs[:1, :1]).any()):
        return 0  # constant inputs do not show whether a unit responds to its inputs
    states = (run.hidden if run.cell_state is None else run.cell_state).flatten(0, 1)
    lowest, highest = states.amin(0), states.amax(0)
    # A ReLU unit that is never active has only zeros: 0 <= 0.
    return int((highest - lowest <= STILL * torch.maximum(highest, -lowest)).sum())
