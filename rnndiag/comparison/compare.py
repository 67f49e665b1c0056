"""Two checkpoints of one model side by side: each measure, its change, and whether it is significant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rnndiag.comparison.baseline import ERRORS, Difference, difference
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.verdict import Verdict
from rnndiag.report import Report


@dataclass(frozen=True, slots=True)
class Change:
    """One measure of one layer or stack in both reports."""

    where: str
    measure: str
    base: float
    new: float
    significant: bool | None
    """beyond the noise of the measurement; None where it has no noise, being a property of the weights"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one report to another of the same model, measured alike."""

    base: str
    new: str
    verdicts: tuple[Verdict, Verdict]
    changes: tuple[Change, ...]
    findings: Difference


def compare(base: Report, new: Report) -> Comparison:
    """Compare two matching reports (see ``baseline.match``)."""
    changes = (*_stacks(base, new), *_layers(base, new))
    return Comparison(base.source.path, new.source.path, (base.verdict, new.verdict), changes, difference(base, new))


def _stacks(base: Report, new: Report) -> Iterator[Change]:
    for one, two in zip(base.stacks, new.stacks, strict=True):
        if one.gradient is not None and two.gradient is not None:
            (low, high), (new_low, new_high) = (s.log10_gain_interval for s in (one.gradient, two.gradient))
            apart = new_high < low or new_low > high
            yield Change(one.name, "log10 gain", one.gradient.log10_gain, two.gradient.log10_gain, apart)


def _layers(base: Report, new: Report) -> Iterator[Change]:
    for one, two in zip(base.layers, new.layers, strict=True):
        if one.lyapunov is not None and two.lyapunov is not None:
            (was, now) = (each.exponents[0] for each in (one.lyapunov, two.lyapunov))
            error = math.hypot(one.lyapunov.standard_errors[0], two.lyapunov.standard_errors[0])
            yield Change(one.name, "top exponent", was, now, abs(now - was) > ERRORS * error)
        for measure, values in _plain(one, two):
            yield Change(one.name, measure, *values, None)


def _plain(one: LayerMeasures, two: LayerMeasures) -> Iterator[tuple[str, tuple[float, float]]]:
    if one.recurrent_weight is not None and two.recurrent_weight is not None:
        weights = (one.recurrent_weight, two.recurrent_weight)
        yield "spectral norm", (weights[0].spectral_norm, weights[1].spectral_norm)
        yield "spectral radius", (weights[0].spectral_radius, weights[1].spectral_radius)
    if one.jacobian is not None and two.jacobian is not None:
        yield "median ‖J_t‖", (one.jacobian.norm_median, two.jacobian.norm_median)
    if one.saturation is not None and two.saturation is not None:
        yield "saturated", (one.saturation.rate, two.saturation.rate)
    gates = (one.gates or {}, two.gates or {})
    for name in gates[0].keys() & gates[1].keys() & {"forget", "update"}:
        yield f"{name} gate, mean", (gates[0][name].mean, gates[1][name].mean)
