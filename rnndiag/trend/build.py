"""From the reports of a run's checkpoints to the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Literal

from rnndiag.errors import SettingsError
from rnndiag.kinds import KINDS
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.series import Course, Series
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.verdict import WORST_FIRST
from rnndiag.report import Report
from rnndiag.rules.base import SEVERITIES
from rnndiag.rules.drift import step as step_text
from rnndiag.rules.policy import Policy
from rnndiag.trend.alarms import assess_along, assess_run
from rnndiag.trend.assumptions import undecided, under_the_assumption
from rnndiag.trend.breaks import broken_part, broken_parts
from rnndiag.trend.counters import COUNTED
from rnndiag.trend.data import SCHEMA_VERSION, Alarm, Change, Place, Point, Trend
from rnndiag.trend.order import OrderBy, arrange
from rnndiag.trend.quantities import of_layer, of_stack
from rnndiag.version import __version__

MIN_CHECKPOINTS = 2


def trend(
    reports: Sequence[Report], *, order: OrderBy | Literal["auto"] = "auto", policy: Policy | None = None
) -> Trend:
    """Put the reports of one run's checkpoints in training order and say where the run is heading.

    Args:
        reports: the reports of the checkpoints, measured alike, in any order.
        order: what decides the training order; see ``arrange``.
        policy: which rules of trends apply, and their thresholds.

    Raises:
        SettingsError: for fewer than two checkpoints, an order that is not known, or reports of different probes.
    """
    policy = policy or Policy()
    if len(reports) < MIN_CHECKPOINTS:
        only = f" ({reports[0].source.path})" if reports else ""
        raise SettingsError(
            f"a trend needs at least {MIN_CHECKPOINTS} checkpoints of one run, got {len(reports)}{only}"
        )
    _check_alike(reports)
    taken, placed = arrange(reports, order)
    placed, notes = _without_copies(placed, counted=taken.axis == COUNTED)
    if len(placed) < MIN_CHECKPOINTS:
        raise SettingsError(
            f"a trend needs at least {MIN_CHECKPOINTS} checkpoints of one run, got copies of a single one"
        )
    assumed = tuple(undecided(placed))
    placed = [(step, under_the_assumption(report)) for step, report in placed]
    courses, changed = _courses(placed)
    assessment = assess_run(courses, policy)
    alarms = assess_along(courses, policy)
    first = placed[0][1]
    return Trend(
        SCHEMA_VERSION,
        __version__,
        taken,
        first.probe,
        first.stacks[0].lag,
        first.thresholds,
        tuple(_point(step, report) for step, report in placed),
        tuple(_changes(placed, alarms)),
        tuple(sorted((*assessment.findings, *assumed), key=lambda finding: SEVERITIES.index(finding.severity))),
        alarms,
        assessment.not_assessed,
        assessment.switched_off,
        (*notes, *_of_one_step(placed), *changed, *_reading_notes(placed)),
    )


_Placed = Sequence[tuple[float, Report]]
_Along = list[tuple[float, Report, StackMeasures | LayerMeasures]]


def _check_alike(reports: Sequence[Report]) -> None:
    conditions = {(r.probe, r.stacks[0].lag, r.thresholds, r.measured_in): r.source.path for r in reports}
    if len(conditions) > 1:
        one, two, *_ = conditions.values()
        raise SettingsError(
            f"{one} and {two} were measured differently (probe, lag, thresholds or dtype); measure alike"
        )


def _without_copies(placed: _Placed, *, counted: bool) -> tuple[list[tuple[float, Report]], list[str]]:
    """Each checkpoint once: ``last.ckpt`` is often a copy of another.

    The same content at another step is training that changed nothing; where steps are but counted, a copy has none.
    """
    kept: list[tuple[float, Report]] = []
    notes = []
    for step, report in placed:
        digest = report.source.sha256
        same = [one for at, one in kept if digest and one.source.sha256 == digest and (counted or at == step)]
        if same:
            notes.append(f"{report.source.path} is the same file as {same[0].source.path}; it counts once")
        else:
            kept.append((step, report))
    return kept, notes


def _of_one_step(placed: _Placed) -> Iterator[str]:
    for step, group in groupby(placed, key=lambda each: each[0]):
        paths = [report.source.path for _, report in group]
        if len(paths) > 1:
            yield f"step {step_text(step)} is that of {len(paths)} different files: {', '.join(paths)}"


def _reading_notes(placed: _Placed) -> Iterator[str]:
    """What was assumed in reading and what was not measured, each once for all files."""
    yield from dict.fromkeys(note for _, report in placed for note in report.notes)
    skipped = (each for _, report in placed for each in report.source.skipped if each.recurrent)
    yield from dict.fromkeys(f"{each.name} was not measured: {each.reason}" for each in skipped)


def _point(step: float, report: Report) -> Point:
    return Point(
        report.source.path,
        step,
        report.verdict,
        tuple(
            Place(s.name, "stack", s.verdict, of_stack(s, report.thresholds), _broken(s, report)) for s in report.stacks
        ),
        tuple(Place(la.name, _form(la), la.verdict, of_layer(la), _broken(la, report)) for la in report.layers),
    )


def _broken(measured: StackMeasures | LayerMeasures, report: Report) -> str | None:
    if isinstance(measured, LayerMeasures):
        return broken_part(measured)
    return broken_parts(measured.layers, report.layers) if measured.verdict == "invalid" else None


def _courses(placed: _Placed) -> tuple[list[Course], list[str]]:
    """Every stack and layer along the run, and notes on those that are not the same all along."""
    seen: dict[tuple[bool, str], _Along] = {}
    for step, report in placed:
        measured: tuple[StackMeasures | LayerMeasures, ...] = (*report.stacks, *report.layers)
        for each in measured:
            seen.setdefault((isinstance(each, StackMeasures), each.name), []).append((step, report, each))
    courses, notes = [], []
    for (is_stack, name), along in seen.items():
        forms = [_stack_form(each, report) for _, report, each in along]
        start = max((i for i in range(1, len(forms)) if forms[i] != forms[i - 1]), default=0)
        if not is_stack and len(along) < len(placed):
            span = f"from step {step_text(along[0][0])} to {step_text(along[-1][0])}"
            notes.append(f"{name} is in {len(along)} of {len(placed)} checkpoints, {span}")
        if not is_stack and start:
            was, now = (
                f"{forms[i]} {word} step {step_text(along[i][0])}"
                for i, word in ((start - 1, "up to"), (start, "from"))
            )
            notes.append(f"{name} is {was} and {now} on; its drift is judged from there")
        courses.append(_course(name, along[start:]))
    by_name = {course.name: course for course in courses if course.kind != "stack"}
    return [
        replace(course, members=tuple(by_name[name] for name in course.layers if name in by_name))
        if course.kind == "stack"
        else course
        for course in courses
    ], notes


def _course(name: str, along: _Along) -> Course:
    values: dict[str, list[tuple[float, float]]] = {}
    for step, report, measured in along:
        measures = of_stack(measured, report.thresholds) if isinstance(measured, StackMeasures) else of_layer(measured)
        for quantity, value in measures.items():
            if value is not None and math.isfinite(value):
                values.setdefault(quantity, []).append((step, value))
    _, report, measured = along[0]
    kind = (
        "stack"
        if isinstance(measured, StackMeasures)
        else ("relu layer" if KINDS[measured.cell].nonlinearity == "relu" else "layer")
    )
    return Course(
        name,
        kind,
        tuple(step for step, *_ in along),
        tuple(each.verdict for *_, each in along),
        {key: Series(*(tuple(axis) for axis in zip(*pairs, strict=True))) for key, pairs in values.items()},
        report.thresholds.vanishing,
        report.thresholds.exploding,
        tuple(getattr(measured, "layers", (name,))),
        tuple(report.source.path for _, report, _ in along),
        tuple(_broken(measured, report) for _, report, measured in along),
    )


def _form(layer: LayerMeasures) -> str:
    sizes = [layer.input_size, layer.hidden_size, *([layer.proj_size] if layer.proj_size else [])]
    return f"{layer.cell} {'>'.join(map(str, sizes))}"


def _stack_form(measured: StackMeasures | LayerMeasures, report: Report) -> str:
    if isinstance(measured, LayerMeasures):
        return _form(measured)
    return ", ".join(f"{layer.name} {_form(layer)}" for layer in report.layers if layer.name in measured.layers)


def _changes(placed: _Placed, alarms: Sequence[Alarm]) -> Iterator[Change]:
    for name in dict.fromkeys(stack.name for _, report in placed for stack in report.stacks):
        along = [(step, stack) for step, report in placed for stack in report.stacks if stack.name == name]
        for (last, one), (first, two) in pairwise(along):
            if one.verdict == two.verdict:
                continue
            change = Change(name, one.verdict, two.verdict, last, first)
            warned = [
                alarm
                for alarm in alarms
                if alarm.where in (name, *one.layers)
                and two.verdict in alarm.warns_of
                and alarm.first_step <= last <= alarm.last_step
            ]
            worse = WORST_FIRST.index(two.verdict) < WORST_FIRST.index(one.verdict)
            if worse and warned:
                earliest = min(warned, key=lambda alarm: alarm.first_step)
                change = replace(change, warned=earliest.rule, warned_step=earliest.first_step)
            yield change
