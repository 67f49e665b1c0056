"""Checks facts about every report that rnndiag writes and that its types cannot express.

Reports are read from files that anybody may have changed. The code that reads a report relies on these facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rnndiag.rules import CATALOGUE

if TYPE_CHECKING:
    from rnndiag.measures.gradient import GradientThroughTime
    from rnndiag.measures.layer import LayerMeasures
    from rnndiag.report import Report

_CODES = frozenset(rule.code for rule in CATALOGUE)


def shape_fault(report: Report) -> str:
    """The first place where a report is not as rnndiag writes it, and what was expected; empty if all is right."""
    return next(_faults(report), "")


def _faults(report: Report) -> Iterator[str]:
    length = report.probe.length
    if length < 1 or report.probe.batch < 1:
        yield _fault("a probe of at least 1 step and 1 sequence", "$.probe")
    if math.isnan(report.thresholds.vanishing) or math.isnan(report.thresholds.exploding):
        yield _fault("a healthy band of two numbers", "$.thresholds")
    for kind, names in (("stacks", [s.name for s in report.stacks]), ("layers", [la.name for la in report.layers])):
        if not names:
            yield _fault("at least one entry", f"$.{kind}")
        if len(set(names)) < len(names):
            yield _fault("different names", f"$.{kind}")
    for index, stack in enumerate(report.stacks):
        place = f"$.stacks[{index}]"
        if not stack.layers:
            yield _fault("the names of its layers", f"{place}.layers")
        if not 1 <= stack.lag <= length:
            yield _fault(f"a lag from 1 to {length}", f"{place}.lag")
        if stack.gradient is not None:
            yield from _of_gradient(stack.gradient, length, f"{place}.gradient")
    for index, layer in enumerate(report.layers):
        yield from _of_layer(layer, length, f"$.layers[{index}]")
    for index, finding in enumerate(report.findings):
        if finding.rule not in _CODES:
            yield _fault("the code of a rule (rnndiag rules lists them)", f"$.findings[{index}].rule")
    theory = report.theory
    if theory is not None and theory.applies:
        if [layer.layer for layer in theory.layers].count(theory.layer or "") != 1:
            yield _fault("the name of one of its layers", "$.theory.layer")
        if None in (theory.rate, theory.critical_sigma, theory.fixed_point_q):
            yield _fault("numbers where theory applies", "$.theory")


def _of_layer(layer: LayerMeasures, length: int, place: str) -> Iterator[str]:
    if layer.jacobian is not None:
        yield from _of_curve(
            layer.jacobian.norm_per_step, layer.jacobian.steps, length, f"{place}.jacobian.norm_per_step"
        )
    if layer.saturation is not None:
        yield from _of_curve(layer.saturation.per_step, layer.saturation.steps, length, f"{place}.saturation.per_step")
    if layer.gradient is not None:
        yield from _of_gradient(layer.gradient, length, f"{place}.gradient")
    spectrum = layer.lyapunov
    if spectrum is not None:
        count = len(spectrum.exponents)
        if not count:
            yield _fault("at least one exponent", f"{place}.lyapunov.exponents")
        for name, values in (("standard_errors", spectrum.standard_errors), ("spread", spectrum.spread)):
            if len(values) != count:
                yield _fault(f"{count} values, one for each exponent", f"{place}.lyapunov.{name}")
    if layer.recurrent_weight is not None and not layer.recurrent_weight.singular_values:
        yield _fault("at least one singular value", f"{place}.recurrent_weight.singular_values")


def _of_gradient(gradient: GradientThroughTime, length: int, place: str) -> Iterator[str]:
    if not 1 <= gradient.lag <= length:
        yield _fault(f"a lag from 1 to {length}", f"{place}.lag")
    yield from _of_curve(gradient.log10_by_lag, gradient.lags, length, f"{place}.log10_by_lag")


def _of_curve(values: Sequence[float], at: Sequence[int] | None, length: int, place: str) -> Iterator[str]:
    """A curve has one value for each step, or one value for each listed step."""
    if at is None and len(values) != length:
        yield _fault(f"{length} values, one for each step", place)
    if at is not None and (len(values) != len(at) or list(at) != sorted({each for each in at if 1 <= each <= length})):
        yield _fault(f"one value for each listed step or lag, and a rising list from 1 to at most {length}", place)
    if at is not None and not values:
        yield _fault("at least one value", place)


def _fault(expected: str, place: str) -> str:
    return f"Expected {expected} - at `{place}`"
