"""Saturation of the squashing nonlinearities, dead units, and gates that no longer move."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rnndiag.config import Thresholds
from rnndiag.measures.statistics import median
from rnndiag.trajectory import Trajectory

STILL = 1e-9
"""A unit that moves by less than this share of what the liveliest unit does is still."""

KEEPING_GATE = {"lstm": "forget", "gru": "update"}
"""The gate whose value multiplies what the cell held before."""


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
    """units that do not vary over steps and sequences, though the inputs do"""


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
    """The share of the main nonlinearity alone."""
    return _share(next(iter(run.along.slopes.values())) < thresholds.saturated_slope)


def saturation(run: Trajectory, thresholds: Thresholds) -> Saturation:
    """Count saturated and dead units along a trajectory."""
    under = {name: slope < thresholds.saturated_slope for name, slope in run.along.slopes.items()}
    main = next(iter(under.values()))
    return Saturation(
        rate=_share(main),
        per_step=tuple(main.double().mean((1, 2)).tolist()),
        per_unit=tuple(main.double().mean((0, 1)).tolist()),
        threshold=thresholds.saturated_slope,
        by_nonlinearity={name: _share(mask) for name, mask in under.items()},
        saturated_units=int(main.all(0).all(0).sum()),
        dead_units=_dead_units(run),
    )


def gates(run: Trajectory, thresholds: Thresholds) -> dict[str, Gate]:
    """Openness of each gate by name; empty for Elman nets."""
    keeping = KEEPING_GATE.get(run.layer.cell)
    return {name: _gate(values, thresholds, keeping=name == keeping) for name, values in run.along.gates.items()}


def _gate(values: Tensor, thresholds: Thresholds, *, keeping: bool) -> Gate:
    constants = values.log().mean((0, 1)).abs().reciprocal() if keeping else None
    return Gate(
        mean=float(values.mean()),
        open=_share(values > thresholds.gate_open),
        closed=_share(values < thresholds.gate_closed),
        time_constant=None if constants is None else float(median(constants)),
        time_constant_max=None if constants is None else float(constants.max()),
    )


def _dead_units(run: Trajectory) -> int:
    if not bool((run.inputs != run.inputs[:1, :1]).any()):
        return 0  # inputs that are all alike say nothing of what a unit responds to
    states = (run.hidden if run.along.cell_state is None else run.along.cell_state).flatten(0, 1)
    moved = states.amax(0) - states.amin(0)
    return int((moved <= STILL * moved.max()).sum())


def _share(mask: Tensor) -> float:
    return int(mask.count_nonzero()) / mask.numel() if mask.numel() else 0.0
