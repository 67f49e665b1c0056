"""The whole pipeline: a model and a probe in, a report out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from rnndiag.bench import Bench, lag_of
from rnndiag.cells.custom import StepLayer
from rnndiag.cells.module_step import ModuleStep
from rnndiag.checkpoint.live.private_copy import isolated
from rnndiag.checkpoint.model import Model, Skipped, Source
from rnndiag.config.settings import Settings
from rnndiag.errors import ProbeError, SettingsError
from rnndiag.files.globs import matches
from rnndiag.machine.device import device_of
from rnndiag.measures.measure_stack import (
    STEP_STAGES,
    MeasuredStack,
    MeasuredStep,
    measure,
    measure_step,
    stage_count,
)
from rnndiag.measures.step_norms import VECTORS
from rnndiag.measures.thinning import thinned_layer, thinned_stack
from rnndiag.measures.verdict import worst
from rnndiag.measuring_cost import affordable, announce_trials, check_memory
from rnndiag.probes import Driven, Probe
from rnndiag.report import SCHEMA_VERSION, ProbeReport, Report
from rnndiag.rules.assess import assess
from rnndiag.rules.base import Subject
from rnndiag.rules.echo_state import echo_state_notes
from rnndiag.rules.policy import Policy
from rnndiag.rules.summary import summarize_verdict
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.suggest import apply_trials
from rnndiag.treatments.trial import Trials
from rnndiag.version import __version__

UNTRIED = "treatments were not tried on {}, as measuring it once is long; rnndiag prescribe tries them"

RMS_ESTIMATED = f"rms_gain_median of {{}} is estimated from {VECTORS} random vectors: its state is large"

Progress = Callable[[str, int, int], None]
"""Called with the name of the next piece of work, the number of pieces that are done, and the number of all pieces."""


def diagnose(
    model: Model,
    probe: Probe,
    settings: Settings | None = None,
    *,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure every recurrent stack of a model on one probe, and judge it.

    Args:
        model: from a file (``checkpoint.load``) or drawn at random (``RandomNet``).
        probe: drives every stack whose input width it fits.
        settings: lag, precision, device, thresholds.
        policy: which rules apply, and their thresholds.
        progress: called before each piece of work.

    Raises:
        SettingsError: for a lag longer than the probe, a layer glob that matches nothing, or a device
            that is not there.
        ProbeError: where the probe fits none of the stacks.
    """
    settings = settings or Settings()
    prepared = prepare(model, probe, settings)
    start = time.monotonic()
    measured = measure_all(prepared, settings, progress)
    seconds = time.monotonic() - start
    report = build_report(model, measured, prepared.unfit, probe, settings, policy)
    return try_suggestions(report, measured.stacks, seconds) if settings.treat else report


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What of a model is measured on a probe."""

    probe: Probe
    benches: tuple[Bench, ...]
    """the stacks, each on its bench"""
    steps: tuple[ModuleStep, ...]
    """the modules that are measured through their own forward"""
    unfit: tuple[Skipped, ...]
    """what the probe does not fit"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a model."""

    stacks: tuple[MeasuredStack, ...]
    steps: tuple[MeasuredStep, ...] = ()

    @property
    def subjects(self) -> list[Subject]:
        """What the rules judge."""
        stacks = [Subject(each.stack, each.layers) for each in self.stacks]
        return [*stacks, *(Subject(each.stack, (each.layer,)) for each in self.steps)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was estimated."""
        return tuple(RMS_ESTIMATED.format(each.layer.name) for each in self.steps if each.rms_is_estimated)


def prepare(model: Model, probe: Probe, settings: Settings) -> Prepared:
    """Prepare the stacks and steps that were asked for, and list those that the probe does not fit.

    A stack is always measured whole.

    Raises:
        SettingsError: for a lag longer than the probe, a device that is not available, or a layer glob that matches
            nothing.
        ProbeError: where the probe fits nothing of the model.
    """
    benches = [Bench.of(stack, probe, settings) for stack in model.stacks]
    chosen = [b for b in benches if any(matches(layer.name, settings.layers) for layer in b.stack.layers)]
    steps = [step for step in model.steps if matches(step.name, settings.layers)]
    if not chosen and not steps:
        names = [layer.name for stack in model.stacks for layer in stack.layers] + [step.name for step in model.steps]
        raise SettingsError(
            f"--layer {settings.layers!r} matches no layer of {model.source.path}; it has {', '.join(names)}"
        )
    if steps:
        lag_of(settings, probe)
    driven: list[Driven] = [*(bench.stack for bench in chosen), *steps]
    misfits = {each.name: probe.misfit(each) for each in driven}
    unfit = tuple(Skipped(name, reason, recurrent=True) for name, reason in misfits.items() if reason is not None)
    fitting = tuple(bench for bench in chosen if misfits[bench.name] is None)
    fitting_steps = tuple(step for step in steps if misfits[step.name] is None)
    if not fitting and not fitting_steps:
        raise ProbeError("; ".join(skipped.reason for skipped in unfit))
    return Prepared(probe, fitting, fitting_steps, unfit)


def measure_all(
    prepared: Prepared,
    settings: Settings,
    progress: Progress | None = None,
    known: Measured | None = None,
) -> Measured:
    """Measure each stack on its bench, and each step.

    Args:
        prepared: the stacks and steps.
        settings: lag, precision, and whether treatments follow.
        progress: called before each piece of work.
        known: what was measured before and has not changed since.

    Raises:
        ModelError: a step raises.
        SettingsError: a measurement does not fit into memory.
    """
    stacks = {} if known is None else {each.bench.name: each for each in known.stacks}
    steps = {} if known is None else {each.layer.name: each for each in known.steps}
    total = sum(stage_count(bench.stack) for bench in prepared.benches if bench.name not in stacks)
    total += STEP_STAGES * sum(step.name not in steps for step in prepared.steps)
    pieces = _Pieces(progress, total)
    measured = []
    for bench in prepared.benches:
        if bench.name in stacks:
            measured.append(stacks[bench.name])
            continue
        with bench.conditions():
            measured.append(measure(bench, pieces))
    through_forward = [
        steps[step.name] if step.name in steps else _measure_module(step, prepared.probe, settings, pieces)
        for step in prepared.steps
    ]
    pieces.last("rules and treatments" if settings.treat else "rules")
    return Measured(tuple(measured), tuple(through_forward))


def _measure_module(step: ModuleStep, probe: Probe, settings: Settings, pieces: _Pieces) -> MeasuredStep:
    device = device_of(settings)
    _check_step_memory(step.name, step.input_size + 8 * step.state_size, probe, settings, device)
    inputs = probe.inputs(step).to(device, getattr(torch, settings.dtype))
    with isolated():
        return measure_step(step.layer(inputs), inputs, lag_of(settings, probe), settings, pieces)


def _check_step_memory(name: str, widths: int, probe: Probe, settings: Settings, device: torch.device) -> None:
    """Refuse a step whose trajectory does not fit into memory.

    Raises:
        SettingsError: with the figures.
    """
    needed = probe.length * probe.batch * widths * (8 if settings.dtype == "float64" else 4)
    check_memory(name, needed, probe, device)


def build_report(
    model: Model,
    measured: Measured,
    unfit: Iterable[Skipped],
    probe: Probe,
    settings: Settings,
    policy: Policy | None,
) -> Report:
    """Apply the rules to the measures, and write the report."""
    source = replace(model.source, skipped=(*model.source.skipped, *unfit))
    notes = (*model.notes, *measured.notes)
    return _report(source, notes, probe, settings, measured.subjects, policy or Policy())


def try_suggestions(report: Report, measured: Sequence[MeasuredStack], measured_seconds: float) -> Report:
    """Try the suggestions for unhealthy stacks, and keep the suggestions that help.

    A stack whose measurement takes long keeps its suggestions untried, and a note says so.
    """
    unhealthy = [each for each in measured if not each.healthy]
    to_treat = [each for each in unhealthy if affordable(each.bench)]
    untried = tuple(UNTRIED.format(each.bench.name) for each in unhealthy if not affordable(each.bench))
    announce_trials([each.bench for each in to_treat], measured_seconds)
    findings = report.findings
    for each in to_treat:
        with each.bench.conditions():
            findings = apply_trials(findings, Trials(Patient.of(each.bench, each.gain)))
    return replace(report, findings=findings, notes=(*report.notes, *untried))


def diagnose_step(
    layer: StepLayer,
    source: Source,
    probe: Probe,
    settings: Settings | None = None,
    *,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure a step function from its own initial states, and judge it as a stack of one layer.

    Args:
        layer: the step, with initial states in the precision and on the device of the settings.
        source: where it came from.
        probe: of kind ``file``, as many sequences as there are initial states.
        settings: as for ``diagnose``.
        policy: likewise.
        progress: likewise.

    Raises:
        ModelError: where the step raises.
        SettingsError: for a lag longer than the probe, or a layer glob that is not of this layer.
    """
    settings = settings or Settings()
    lag = lag_of(settings, probe)
    if not matches(layer.name, settings.layers):
        raise SettingsError(f"--layer {settings.layers!r} matches no layer of {source.path}; it has {layer.name}")
    assert probe.array is not None  # of kind file
    widths = layer.input_size + 8 * layer.state_size
    _check_step_memory(layer.name, widths, probe, settings, layer.initial.device)
    pieces = _Pieces(progress, STEP_STAGES)
    inputs = (probe.array * probe.scale).to(layer.initial)
    measured = Measured((), (measure_step(layer, inputs, lag, settings, pieces),))
    pieces.last("rules")
    return _report(source, measured.notes, probe, settings, measured.subjects, policy or Policy())


class _Pieces:
    """Counts the pieces of work for whoever watches."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, name: str) -> None:
        if self._progress is not None:
            self._progress(name, self._done, self._total)
        self._done += 1

    def last(self, name: str) -> None:
        """What is left when all is measured, or could not be."""
        self._done = self._total
        self(name)


def _report(
    source: Source,
    notes: tuple[str, ...],
    probe: Probe,
    settings: Settings,
    measured: Sequence[Subject],
    policy: Policy,
) -> Report:
    layers = tuple(la for s in measured for la in s.layers if matches(la.name, settings.layers))
    shown = {layer.name for layer in layers} | {subject.stack.name for subject in measured} | {""}  # of the file itself
    assessment = assess([replace(subject, framework=source.framework) for subject in measured], policy, source)
    return Report(
        schema_version=SCHEMA_VERSION,
        rnndiag_version=__version__,
        source=source,
        probe=ProbeReport(probe.kind, probe.length, probe.batch, probe.scale, probe.seed),
        measured_in=settings.dtype,
        device=settings.device,
        thresholds=settings.thresholds,
        verdict=worst([subject.stack.verdict for subject in measured]),
        summary=summarize_verdict([s.stack for s in measured], [la for s in measured for la in s.layers]),
        layers=tuple(thinned_layer(layer) for layer in layers),
        stacks=tuple(thinned_stack(subject.stack) for subject in measured),
        findings=tuple(f for f in assessment.findings if f.layer in shown),
        not_assessed=tuple(n for n in assessment.not_assessed if n.layer in shown),
        switched_off=tuple(n for n in assessment.switched_off if n.layer in shown),
        notes=(*notes, *echo_state_notes(layers), *filter(None, [probe.assumption])),
        not_applicable=tuple(n for n in assessment.not_applicable if n.layer in shown),
    )
