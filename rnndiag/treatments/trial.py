"""Try treatments on copies of a stack, and judge each by the same measurement as before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from rnndiag.cells.layer import Stack
from rnndiag.config import Thresholds
from rnndiag.measures.gain import Gain
from rnndiag.measures.verdict import Verdict
from rnndiag.rules.base import Checklist
from rnndiag.treatments import TRAINING, TREATMENTS
from rnndiag.treatments.patient import MOSTLY, Patient

Kind = Literal["weights", "architecture", "training"]

DECIDEDLY = 0.5
"""The share of the distance to the healthy band that may be left of it, where the verdict does not become healthy."""

OTHER_STATES = 0.5
"""The relative change of the states from which on nothing that reads them can do without training."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one treatment, or a pair of them, did to a copy of one stack."""

    name: str
    members: tuple[str, ...]
    """one, or the two of a pair in the order in which they were applied"""
    checklist: Checklist
    kind: Kind
    """``weights``: the same architecture with other numbers; ``training``: no layer changes"""
    stack: str
    layers: tuple[str, ...]
    """those that it changed; none for ``training``"""
    action: str
    log10_gain: float
    """at the lag, after it; for ``training``: at the lag that training would then see"""
    log10_gain_interval: tuple[float, float] | None
    verdict: Verdict
    input_log10_gain: float | None
    """after it, at the earliest input of the lag: how much of that input still reaches the last state"""
    saturated: float | None
    """after it: the largest share, over layers, of tanh slopes under the threshold"""
    live: float | None
    """after it, where it is healthy: the share of the eight leading directions in which a gradient survives the lag"""
    helps: bool
    change: float | None
    """``||s' - s|| / ||s||`` over the hidden states on the probe; None for ``training``"""
    redraws: bool
    """whether weights were drawn anew: what a trained net learnt is gone"""
    note: str
    """what a user should know beside the numbers"""
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A trial, and the stack that came of it."""

    trial: Trial
    stack: Stack | None
    """in its file's own types; None for ``training``"""


@dataclass(frozen=True, slots=True)
class _Step:
    """A patient after the treatments so far, with what was done."""

    patient: Patient
    actions: tuple[str, ...]
    figures: Mapping[str, float]


class Trials:
    """All that is tried on one stack, each treatment once."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self._steps: dict[str, _Step | str] = {}
        self._done: dict[str, Tried | str] = {}

    def of(self, name: str) -> Tried | str:
        """A treatment, pair or change of training by name: what came of it, or why it was not tried."""
        if name not in self._done:
            self._done[name] = self._of(name)
        return self._done[name]

    def _of(self, name: str) -> Tried | str:
        if name in TRAINING:
            return self._training(name)
        members = tuple(name.split("+"))
        step = self._step(members)
        return step if isinstance(step, str) else Tried(self._judged(name, members, step), step.patient.as_stored)

    def _step(self, members: tuple[str, ...]) -> _Step | str:
        name = "+".join(members)
        if name not in self._steps:
            self._steps[name] = self._applied(members)
        return self._steps[name]

    def _applied(self, members: tuple[str, ...]) -> _Step | str:
        *first, last = members
        before: _Step | str = self._step(tuple(first)) if first else _Step(self.patient, (), {})
        if isinstance(before, str):
            return before
        if first and before.patient.gain.verdict == "healthy":
            return f"{first[0]} alone heals it"
        treatment = TREATMENTS[last]
        reason = treatment.unsuited(before.patient)
        if reason is not None:
            return reason
        applied = treatment.apply(before.patient)
        if not _changed(before.patient.stack, applied.stack):
            return "it changes nothing here: no other value is better"
        patient = before.patient.treated(applied.stack)
        figures = {f"{last}.{name}": value for name, value in applied.figures.items()}
        return _Step(patient, (*before.actions, applied.action), {**before.figures, **figures})

    def _judged(self, name: str, members: tuple[str, ...], step: _Step) -> Trial:
        before, after = self.patient, step.patient
        treatments = [TREATMENTS[member] for member in members]
        redraws = any(treatment.redraws for treatment in treatments)
        same = all(treatment.same_architecture for treatment in treatments)
        improved = helps(before.gain, after.gain, before.thresholds)
        return Trial(
            name=name,
            members=members,
            checklist=treatments[0].checklist,
            kind="weights" if same else "architecture",
            stack=after.stack.name,
            layers=_changed(before.stack, after.stack),
            action="; then ".join(step.actions),
            log10_gain=after.gain.log10,
            log10_gain_interval=after.gain.gradient.log10_gain_interval if after.gain.gradient else None,
            verdict=after.gain.verdict,
            input_log10_gain=after.gain.gradient.input_log10_gain if after.gain.gradient else None,
            saturated=None if math.isnan(after.gain.saturated) else after.gain.saturated,
            live=after.gain.live,
            helps=improved,
            change=after.change(before),
            redraws=redraws,
            note=_note(after.gain.saturated, after.change(before), redraws=redraws, same=same),
            figures=step.figures,
        )

    def _training(self, name: str) -> Tried | str:
        treatment, patient = TRAINING[name], self.patient
        reason = treatment.unsuited(patient)
        if reason is not None:
            return reason
        advised = treatment.advise(patient)
        trial = Trial(
            name=name,
            members=(name,),
            checklist=treatment.checklist,
            kind="training",
            stack=patient.stack.name,
            layers=(),
            action=advised.action,
            log10_gain=advised.log10_gain,
            log10_gain_interval=None,
            verdict=patient.gain.verdict,
            input_log10_gain=None,
            saturated=None,
            live=None,
            helps=advised.helps,
            change=None,
            redraws=False,
            note=advised.note,
            figures=advised.figures,
        )
        return Tried(trial, None)


def helps(before: Gain, after: Gain, thresholds: Thresholds) -> bool:
    """Whether a treatment helped.

    Either the verdict became healthy and was not, or the distance of the log10 gain to the healthy band has shrunk
    decidedly: to half of it or less, at the least favourable end of the interval after against the most favourable one
    before, and not by leaping over the band from vanishing to exploding or back.
    """
    if before.verdict == "healthy" or after.verdict == "healthy":
        return before.verdict != "healthy"
    if before.gradient is None or after.gradient is None:
        return False
    if {before.verdict, after.verdict} == {"vanishing", "exploding"}:
        return False
    was = min(distance(gain, thresholds) for gain in before.gradient.log10_gain_interval)
    now = max(distance(gain, thresholds) for gain in after.gradient.log10_gain_interval)
    return now < math.inf and now <= DECIDEDLY * was and was > 0


def distance(log10_gain: float, thresholds: Thresholds) -> float:
    """Decades between a gain and the healthy band; infinite for a gain that is none."""
    if math.isnan(log10_gain):
        return math.inf
    return max(thresholds.vanishing - log10_gain, log10_gain - thresholds.exploding, 0.0)


class Ranked(Protocol):
    """What can be ranked: a trial on one stack, or a treatment over several."""

    @property
    def helps(self) -> bool: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def log10_gain(self) -> float: ...
    @property
    def saturated(self) -> float | None: ...
    @property
    def live(self) -> float | None: ...
    @property
    def change(self) -> float | None: ...
    @property
    def redraws(self) -> bool: ...
    @property
    def members(self) -> tuple[str, ...]: ...


def rank(trial: Ranked, thresholds: Thresholds) -> tuple[float, ...]:
    """A key to sort by: what helps, healthy first, then the nearest to the healthy band, then the least change.

    Of healthy ones, those that leave most of the slopes saturated come last, and before them those in which some of the
    leading directions die before the lag: a gain in the band may be that of one direction, and a net that has no other
    seldom learns (``benchmarks/cure.py``). Changes are compared by tenths, and beyond 1 not at all: the states then
    have nothing more to do with those before. Then what keeps the trained weights comes before what draws them anew,
    and one treatment before two.
    """
    change = 1.0 if trial.change is None or math.isnan(trial.change) else min(trial.change, 1.0)
    return (
        not trial.helps,
        trial.verdict != "healthy",
        distance(trial.log10_gain, thresholds),
        (trial.saturated or 0.0) > MOSTLY,
        trial.live is not None and trial.live < 1.0,
        round(change, 1),
        trial.redraws,
        len(trial.members),
        change,
    )


def _changed(before: Stack, after: Stack) -> tuple[str, ...]:
    pairs = zip(before.layers, after.layers, strict=True)
    return tuple(
        new.name
        for old, new in pairs
        if new.cell != old.cell or any(not p.equal(old.parameters[n]) for n, p in new.parameters.items())
    )


def _note(saturated: float, change: float, *, redraws: bool, same: bool) -> str:
    if not same:
        return "another architecture: train it from scratch"
    if redraws:
        return "forgets what it learnt"
    if saturated > MOSTLY:
        return f"{saturated:.0%} of the slopes stay saturated"
    return "to be trained on" if change > OTHER_STATES else ""
