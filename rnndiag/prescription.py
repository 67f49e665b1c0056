"""What would help a model, tried on copies of it, and how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model
from rnndiag.config.settings import Settings, Thresholds
from rnndiag.diagnose import Measured, Progress, build_report, measure_all, prepare
from rnndiag.errors import SettingsError
from rnndiag.files.globs import matches
from rnndiag.files.text import listing
from rnndiag.measures.gain import Gain
from rnndiag.measures.measure_stack import MeasuredStack
from rnndiag.measures.verdict import Verdict, worst
from rnndiag.probes import Probe
from rnndiag.report import Report
from rnndiag.rules.base import Checklist, Finding
from rnndiag.rules.policy import Policy
from rnndiag.treatments.judging import distance, rank
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.registry import NAMES, TRAINING
from rnndiag.treatments.suggest import apply_trials
from rnndiag.treatments.trial import Kind, NotTried, Trial, Trials, Tried

UNTREATED = "{}: measured through its own forward, to which no treatment is applied"


@dataclass(frozen=True, slots=True)
class TreatmentResult:
    """What one treatment, or a pair of them, does to the stacks of a model that are ill."""

    name: str
    checklist: Checklist
    kind: Kind
    same_architecture: bool
    members: tuple[str, ...]
    action: str
    log10_gain: float
    """of the stack that is then worst off"""
    log10_gain_interval: tuple[float, float] | None
    verdict: Verdict
    """the worst of the stacks that were ill"""
    helps: bool
    input_reach: float | None
    """the smallest input reach of a treated stack, see ``Trial``; None if no treated stack is healthy"""
    saturated: float | None
    """the largest share of saturated slopes in a treated stack; None where no layer changes"""
    mostly_saturated: bool
    """whether more than half of the slopes of a layer are saturated after it, in some treated stack"""
    live: float | None
    """the smallest share of leading directions live at the lag in a treated stack; None where none is healthy"""
    change: float | None
    """the largest relative change of a stack's states on the probe; None where no layer changes"""
    redraws: bool
    cost: str
    """what the treatment costs a trained net; empty if no weight changes"""
    note: str
    layers: tuple[str, ...]
    stacks: tuple[Trial, ...]
    """the trials behind it, one for each stack that it suits"""


@dataclass(frozen=True, slots=True)
class Prescription:
    """Every treatment that suits a model, tried on copies, the best first; changes of training last.

    ``before`` and ``after`` are whole reports: of the model, and of its copy under the chosen treatment, both None
    where nothing is chosen.
    """

    before: Report
    treatments: tuple[TreatmentResult, ...]
    not_tried: tuple[NotTried, ...]
    chosen: str | None
    """the best that helps and keeps the architecture, or the one asked for; None: the model is healthy, or nothing
    helps"""
    after: Report | None


@dataclass(frozen=True, slots=True, eq=False)
class Prescribed:
    """A prescription, and the layers of the chosen treatment."""

    prescription: Prescription
    changed: Mapping[str, RecurrentLayer]
    """by name, in the file's own types"""


def prescribe(
    model: Model,
    probe: Probe,
    settings: Settings | None = None,
    *,
    policy: Policy | None = None,
    treatments: str = "*",
    take: str | None = None,
    progress: Progress | None = None,
) -> Prescribed:
    """Try treatments on copies of a model's ill stacks, measure each on the same probe, and rank them.

    Args:
        model: from a file or drawn at random.
        probe: as for ``diagnose``.
        settings: likewise.
        policy: of the two reports.
        treatments: a glob over the names of treatments, pairs and changes of training.
        take: the treatment to choose in place of the best; stacks that are healthy stay, unless all are.
        progress: called before each piece of work.

    Raises:
        SettingsError: for a glob or a name that no treatment has, or a treatment to take that cannot be applied.
    """
    settings = replace(settings or Settings(), treat=False)
    names = _named(treatments, take)
    prepared = prepare(model, probe, settings)
    measured = measure_all(prepared, settings, progress)
    before = build_report(model, measured, prepared.unfit, probe, settings, policy)
    if measured.steps:
        before = replace(
            before, notes=(*before.notes, UNTREATED.format(listing([s.layer.name for s in measured.steps])))
        )
    gains: list[Gain] = []
    outcomes: dict[str, list[Tried | None]] = {name: [] for name in names}
    not_tried: list[NotTried] = []
    for each in _to_treat(measured.stacks, take):
        gain, done, findings = _try_treatments(each, names, before.findings, progress)
        gains.append(gain)
        before = replace(before, findings=findings)
        for name, outcome in done.items():
            outcomes[name].append(outcome if isinstance(outcome, Tried) else None)
        not_tried += [outcome for outcome in done.values() if isinstance(outcome, NotTried)]
    found = [_combined(done, gains, settings.thresholds) for done in outcomes.values() if any(done)]
    ranked = _ranked(found, settings.thresholds)
    chosen = _chosen(ranked, not_tried, take)
    changed: dict[str, RecurrentLayer] = {}
    after = None
    if chosen is not None:
        treated, changed = _treated(model, outcomes[chosen.name])
        prepared = prepare(treated, probe, settings)
        same = tuple(each for each in measured.stacks if each.bench.stack in treated.stacks)
        again = measure_all(prepared, settings, progress, Measured(same, measured.steps))
        after = build_report(treated, again, prepared.unfit, probe, settings, policy)
    taken = None if chosen is None else chosen.name
    return Prescribed(Prescription(before, tuple(ranked), tuple(not_tried), taken, after), changed)


def _try_treatments(
    measured: MeasuredStack, names: Sequence[str], findings: Sequence[Finding], progress: Progress | None
) -> tuple[Gain, dict[str, Tried | NotTried], tuple[Finding, ...]]:
    """Try treatments on copies of one stack.

    The patients, with their inputs, working weights and hidden states, are released when the function returns. Only
    the treated stacks in the dtypes of the file are kept, because the best treatment is known after the last stack.

    Returns:
        the gain of the stack before any treatment, the outcome of each treatment by name, and the findings with the
        suggestions that were tried.
    """
    with measured.bench.conditions():
        trials = Trials(Patient.of(measured.bench, measured.gain))
        stack, gain = trials.patient.stack, trials.patient.gain
        outcomes: dict[str, Tried | NotTried] = {}
        for index, name in enumerate(names):
            if progress is not None:
                progress(f"{stack.name}: {name}", index, len(names))
            outcomes[name] = trials.of(name)
        tried = tuple(findings) if gain.verdict == "healthy" else apply_trials(findings, trials)
    return gain, outcomes, tried


def _to_treat(measured: Sequence[MeasuredStack], take: str | None) -> Sequence[MeasuredStack]:
    """The unhealthy stacks; all stacks if a treatment was asked for although every stack is healthy."""
    unhealthy = [each for each in measured if not each.healthy]
    return unhealthy if unhealthy or take is None else measured


def _named(treatments: str, take: str | None) -> list[str]:
    names = [name for name in NAMES if matches(name, treatments)]
    if not names:
        raise SettingsError(f"--treatment {treatments!r} matches none; expected one of {', '.join(NAMES)}")
    if take is None:
        return names
    if take not in NAMES:
        near = get_close_matches(take, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"--take {take!r}: expected one of {', '.join(NAMES)}{hint}")
    if take in TRAINING:
        raise SettingsError(f"--take {take}: it changes training, not the model; expected one that changes layers")
    return names if take in names else [*names, take]


def _combined(done: Sequence[Tried | None], gains: Sequence[Gain], thresholds: Thresholds) -> TreatmentResult:
    """Combine the trials of one treatment on several stacks.

    The treatment is applied to the stacks that it helps. If it helps no stack, it is applied to each stack that it
    suits.

    Args:
        done: the trial on each stack; None for a stack on which the treatment was not tried.
        gains: the gain of each stack before the treatment.
        thresholds: the healthy band.
    """
    shown = [tried.trial for tried in done if tried is not None]
    used = _used(done)
    after: list[tuple[Verdict, float, tuple[float, float] | None]] = []
    for tried, gain in zip(done, gains, strict=True):
        if tried is not None and tried in used:
            after.append((tried.trial.verdict, tried.trial.log10_gain, tried.trial.log10_gain_interval))
        else:
            after.append((gain.verdict, gain.log10, gain.gradient.log10_gain_interval if gain.gradient else None))
    verdict = worst([verdict for verdict, _, _ in after])
    _, gain_then, interval = max(
        (state for state in after if state[0] == verdict), key=lambda state: distance(state[1], thresholds)
    )
    one = shown[0]
    return TreatmentResult(
        name=one.name,
        checklist=one.checklist,
        kind=one.kind,
        same_architecture=one.kind != "architecture",
        members=one.members,
        action="; ".join(dict.fromkeys(tried.trial.action for tried in used)),
        log10_gain=gain_then,
        log10_gain_interval=interval,
        verdict=verdict,
        input_reach=min((trial.input_reach for trial in shown if trial.input_reach is not None), default=None),
        saturated=_largest([trial.saturated for trial in shown]),
        mostly_saturated=any(trial.mostly_saturated for trial in shown),
        live=min((trial.live for trial in shown if trial.live is not None), default=None),
        helps=any(trial.helps for trial in shown),
        change=_largest([trial.change for trial in shown]),
        redraws=one.redraws,
        cost=one.cost,
        note="; ".join(dict.fromkeys(trial.note for trial in shown if trial.note)),
        layers=tuple(name for tried in used for name in tried.trial.layers),
        stacks=tuple(shown),
    )


def _largest(values: Sequence[float | None]) -> float | None:
    return max((v for v in values if v is not None), key=lambda v: (math.isnan(v), v), default=None)


def _used(done: Sequence[Tried | None]) -> list[Tried]:
    suited = [tried for tried in done if tried is not None]
    return [tried for tried in suited if tried.trial.helps] or suited


def _ranked(found: Sequence[TreatmentResult], thresholds: Thresholds) -> list[TreatmentResult]:
    """Those that change layers first, each kind by ``rank``."""
    return sorted(found, key=lambda each: (each.kind == "training", *rank(each, thresholds)))


def _chosen(
    ranked: Sequence[TreatmentResult], not_tried: Sequence[NotTried], take: str | None
) -> TreatmentResult | None:
    if take is not None:
        for each in ranked:
            if each.name == take:
                return each
        reasons = "; ".join(dict.fromkeys(f"{n.stack}: {n.reason}" for n in not_tried if n.name == take))
        raise SettingsError(f"--take {take}: does not suit this model ({reasons}); rnndiag prescribe lists what does")
    return next((each for each in ranked if each.helps and each.kind == "weights"), None)


def _treated(model: Model, done: Sequence[Tried | None]) -> tuple[Model, dict[str, RecurrentLayer]]:
    """The model with the treated stacks, and the layers that differ."""
    used = _used(done)
    fresh: dict[str, Stack] = {}
    changed: dict[str, RecurrentLayer] = {}
    for tried in done:
        if tried is not None and tried.stack is not None and tried in used:
            fresh[tried.stack.name] = tried.stack
            changed |= {layer.name: layer for layer in tried.stack.layers if layer.name in tried.trial.layers}
    return replace(model, stacks=tuple(fresh.get(stack.name, stack) for stack in model.stacks)), changed
