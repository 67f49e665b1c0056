"""The whole pipeline: a model and a probe in, a report out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch

from rnndiag.budget import LONG, check_memory, cost, gemm_rate
from rnndiag.cells.custom import StepLayer
from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Skipped, Source
from rnndiag.config.settings import Settings
from rnndiag.errors import ProbeError, SettingsError
from rnndiag.files.globs import matches
from rnndiag.machine.device import device_of, measuring
from rnndiag.measures.alternative import as_assumed, with_alternative
from rnndiag.measures.layer import STAGES, LayerMeasures, measure_layer, measure_stack
from rnndiag.measures.step_norms import VECTORS, estimates_rms
from rnndiag.measures.thinning import thinned_layer, thinned_stack
from rnndiag.measures.verdict import worst
from rnndiag.probes import Probe
from rnndiag.report import SCHEMA_VERSION, ProbeReport, Report
from rnndiag.rules import assess
from rnndiag.rules.base import Finding, Subject
from rnndiag.rules.policy import Policy
from rnndiag.rules.summary import summarise
from rnndiag.trajectory import run_stack, run_step
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.suggest import tried
from rnndiag.treatments.trial import Trials
from rnndiag.version import __version__

SLOW = 1e10
"""Flops a second of a slow machine: what takes less than ``LONG`` on it is not worth measuring this one's."""

TREATING = 4
"""Times as long as measuring that trying treatments takes, about."""

DEAR = 60.0
"""Seconds on a slow machine from which on a diagnosis tries no treatments: one rate, so that reports are alike."""

UNTRIED = "treatments were not tried on {}, as measuring it once is long; rnndiag prescribe tries them"

log = logging.getLogger(__name__)

RMS_ESTIMATED = f"rms_gain_median of {{}} is estimated from {VECTORS} random vectors: its state is large"

Progress = Callable[[str, int, int], None]
"""Called with what comes next, and how many of how many pieces are done."""


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
        progress: told before each piece of work.

    Raises:
        SettingsError: for a lag longer than the probe, a layer glob that matches nothing, or a device
            that is not there.
        ProbeError: where the probe fits none of the stacks.
    """
    settings = settings or Settings()
    lag = _lag(settings, probe)
    device = device_of(settings)
    stacks, unfit = _fitting(_chosen(model, settings.layers), probe)
    tell = _Pieces(progress, sum(2 + len(STAGES) * len(stack.layers) for stack in stacks))
    measured: list[Subject] = []
    start = time.monotonic()
    for stack in stacks:
        with measuring_of(stack, device):
            measured.append(_measure(stack, probe, lag, settings, device, tell))
    tell.last("rules and treatments" if settings.treat else "rules")
    source = replace(model.source, skipped=(*model.source.skipped, *unfit))
    report = _report(source, model.notes, probe, settings, measured, policy or Policy())
    if not settings.treat:
        return report
    ill = {stack.name for stack in report.stacks if as_assumed(stack).verdict != "healthy"}
    dear = [s.name for s in stacks if s.name in ill and cost(s, probe, settings).seconds(SLOW) > DEAR]
    report = replace(report, notes=(*report.notes, *map(UNTRIED.format, dear)))
    ill -= set(dear)
    if ill and time.monotonic() - start > LONG / TREATING:
        log.info(f"{', '.join(sorted(ill))}: trying treatments takes a few times as long; --no-treat leaves them out")
    return replace(report, findings=_tried(report.findings, patients(model, probe, settings, ill)))


def patients(model: Model, probe: Probe, settings: Settings, names: Container[str]) -> Iterator[Patient]:
    """The stacks of those names on a probe that they fit, ready for treatment, one at a time."""
    lag, device = _lag(settings, probe), device_of(settings)
    for stack in _fitting(_chosen(model, settings.layers), probe)[0]:
        if stack.name in names:
            with measuring_of(stack, device):
                patient = Patient.of(stack, probe, lag, settings, device)
            yield patient


def _tried(findings: tuple[Finding, ...], ill: Iterator[Patient]) -> tuple[Finding, ...]:
    for patient in ill:
        with measuring_of(patient.stack, patient.device):
            findings = tried(findings, Trials(patient))
    return findings


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
    lag = _lag(settings, probe)
    if not matches(layer.name, settings.layers):
        raise SettingsError(f"--layer {settings.layers!r} matches no layer of {source.path}; it has {layer.name}")
    assert probe.array is not None  # of kind file
    widths = layer.input_size + 8 * layer.state_size
    needed = probe.length * probe.batch * widths * (8 if settings.dtype == "float64" else 4)
    check_memory(layer.name, needed, probe, layer.initial.device)
    tell = _Pieces(progress, 2 + len(STAGES))
    with measuring(layer.state_size**2, layer.initial.device):
        tell(f"{layer.name}: states")
        run = run_step(layer, (probe.array * probe.scale).to(layer.initial))
        measures, adjoint = measure_layer(run, layer, lag, settings, stage=lambda name: tell(f"{layer.name}: {name}"))
        judged = measure_stack(layer.name, [[run]], [measures], adjoint, lag, settings)
    tell.last("rules")
    notes = (RMS_ESTIMATED.format(layer.name),) if estimates_rms(run.state_jacobians.first) else ()
    return _report(source, notes, probe, settings, [Subject(judged, (measures,))], policy or Policy())


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


def _lag(settings: Settings, probe: Probe) -> int:
    lag = settings.lag or probe.length
    if lag > probe.length:
        raise SettingsError(
            f"--lag {lag} is longer than the probe; expected at most --T {probe.length}; raise --T or lower --lag"
        )
    return lag


def _report(
    source: Source,
    notes: tuple[str, ...],
    probe: Probe,
    settings: Settings,
    measured: Sequence[Subject],
    policy: Policy,
) -> Report:
    layers = tuple(la for s in measured for la in s.layers if matches(la.name, settings.layers))
    shown = {layer.name for layer in layers} | {subject.stack.name for subject in measured}
    assessment = assess([replace(subject, framework=source.framework) for subject in measured], policy)
    return Report(
        schema_version=SCHEMA_VERSION,
        rnndiag_version=__version__,
        source=source,
        probe=ProbeReport(probe.kind, probe.length, probe.batch, probe.scale, probe.seed),
        measured_in=settings.dtype,
        device=settings.device,
        thresholds=settings.thresholds,
        verdict=worst([subject.stack.verdict for subject in measured]),
        summary=summarise([s.stack for s in measured], [la for s in measured for la in s.layers]),
        layers=tuple(thinned_layer(layer) for layer in layers),
        stacks=tuple(thinned_stack(subject.stack) for subject in measured),
        findings=tuple(f for f in assessment.findings if f.layer in shown),
        not_assessed=tuple(n for n in assessment.not_assessed if n.layer in shown),
        switched_off=tuple(n for n in assessment.switched_off if n.layer in shown),
        notes=notes,
        not_applicable=tuple(n for n in assessment.not_applicable if n.layer in shown),
    )


def _measure(
    stack: Stack, probe: Probe, lag: int, settings: Settings, device: torch.device, step: Callable[[str], None]
) -> Subject:
    dtype = getattr(torch, settings.dtype)
    in_precision = Stack(stack.name, tuple(tuple(la.to(dtype, device) for la in level) for level in stack.levels))
    _check_fit(stack, in_precision, probe, settings)
    step(f"{stack.name}: states")
    inputs = probe.inputs(stack).to(device, dtype)
    levels = run_stack(in_precision, inputs)
    runs = [run for level in levels for run in level]
    layers: list[LayerMeasures] = []
    adjoint = None
    for run, stored in zip(runs, stack.layers, strict=True):
        layer, adjoint = measure_layer(
            run,
            stored,
            lag,
            settings,
            embedding=stack.embedding if stored in stack.levels[0] else None,
            stage=lambda name, of=stored.name: step(f"{of}: {name}"),  # type: ignore[misc]
        )
        layers.append(layer)
    step(f"{stack.name}: gradient through all layers")
    lone = adjoint if len(runs) == 1 else None
    judged = measure_stack(stack.name, levels, layers, lone, lag, settings)
    del levels, runs, run, adjoint, lone  # the states take much of the memory, and more states follow
    judged, layers = with_alternative(judged, layers, in_precision, inputs, lag, settings)
    return Subject(judged, tuple(layers))


def measuring_of(stack: Stack, device: torch.device) -> AbstractContextManager[None]:
    """The conditions for measuring a stack."""
    return measuring(max(layer.hidden_size * layer.output_size for layer in stack.layers), device)


def _chosen(model: Model, glob: str) -> list[Stack]:
    """The stacks with a layer that matches; a stack is always measured whole."""
    chosen = [s for s in model.stacks if any(matches(layer.name, glob) for layer in s.layers)]
    if not chosen:
        names = ", ".join(layer.name for stack in model.stacks for layer in stack.layers)
        raise SettingsError(f"--layer {glob!r} matches no layer of {model.source.path}; it has {names}")
    return chosen


def _fitting(stacks: list[Stack], probe: Probe) -> tuple[list[Stack], list[Skipped]]:
    reasons = [(stack, probe.misfit(stack)) for stack in stacks]
    fitting = [stack for stack, reason in reasons if reason is None]
    unfit = [Skipped(stack.name, reason, recurrent=True) for stack, reason in reasons if reason is not None]
    if not fitting:
        raise ProbeError("; ".join(skipped.reason for skipped in unfit))
    return fitting, unfit


def _check_fit(stored: Stack, stack: Stack, probe: Probe, settings: Settings) -> None:
    """Refuse beforehand what would not fit into memory, or into the precision; log what will take long.

    Raises:
        SettingsError: with the figures.
    """
    needs = cost(stack, probe, settings)
    check_memory(stack.name, needs.memory, probe, stack.layers[0].weight_hh.device)
    if needs.seconds(SLOW) > LONG and needs.seconds(rate := gemm_rate(settings)) > LONG:
        log.info(needs.told(stack.name, rate))
    for kept, layer in zip(stored.layers, stack.layers, strict=True):
        pairs = zip(kept.parameters.values(), layer.parameters.values(), strict=True)
        if any(bool((one.isfinite().to(two.device) & two.isinf()).any()) for one, two in pairs):
            raise SettingsError(f"{layer.name}: weights overflow {settings.dtype}; measure with --dtype float64")
