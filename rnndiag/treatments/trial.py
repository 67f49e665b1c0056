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
from rnndiag.rules.words import power
from rnndiag.treatments import TRAINING, TREATMENTS
from rnndiag.treatments.patient import MOSTLY, Patient
from rnndiag.treatments.sound import sound_net

Kind = Literal["weights", "architecture", "training"]

DECIDEDLY = 0.5
"""The share of the distance to the healthy band that may be left of it, where the verdict does not become healthy."""

HEARS_LESS = 0.5
"""Decades that the gain at the last input may fall before a treatment counts as the reason why the input is lost."""

LOST = {
    "weights": "the readout and the layers above were trained on other states and no longer fit: keep training",
    "redrawn": "the trained weights are reset, and the readout and the layers above no longer fit: train again",
    "architecture": "the architecture changes and the trained weights are lost: train from scratch",
}
"""What a treatment of layers costs a trained net."""


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
    input_reach: float | None
    """after it, where it is healthy: the same and the gain at the last input, each relative to a sound net of that
    shape, in decades; the smaller of the two, 0 at most"""
    saturated: float | None
    """after it: the largest ``saturation.rate`` of the layers"""
    mostly_saturated: bool
    """whether more than half of the slopes of a layer are saturated; never for ReLU, where half are inactive at rest"""
    live: float | None
    """after it, where it is healthy: the share of the eight leading directions in which a gradient survives the lag"""
    helps: bool
    change: float | None
    """``||s' - s|| / ||s||`` over the hidden states on the probe; None for ``training``"""
    redraws: bool
    """whether weights were drawn from scratch"""
    cost: str
    """what a trained net loses by it; empty where no weight changes"""
    note: str
    """what a user should know next to the numbers"""
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
        self._sound: dict[tuple[str, ...], Patient] = {}

    def of(self, name: str) -> Tried | str:
        """A treatment, pair or change of training by name: what came of it, or why it was not tried."""
        if name not in self._done:
            self._done[name] = self._of(name)
        return self._done[name]

    def sound(self, patient: Patient) -> Patient:
        """A sound net of the shape of a patient, made once for each architecture."""
        cells = tuple(layer.cell for layer in patient.stack.layers)
        if cells not in self._sound:
            self._sound[cells] = sound_net(patient)
        return self._sound[cells]

    def treated(self, name: str) -> Patient:
        """The patient after a treatment of layers, or a pair of them, that was tried."""
        step = self._step(tuple(name.split("+")))
        assert not isinstance(step, str)  # it was tried
        return step.patient

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
        healthy = after.gain.verdict == "healthy"
        reach = input_reach(after.gain, self.sound(after).gain) if healthy else None
        kind: Kind = "weights" if same else "architecture"
        return Trial(
            name=name,
            members=members,
            checklist=treatments[0].checklist,
            kind=kind,
            stack=after.stack.name,
            layers=_changed(before.stack, after.stack),
            action="; then ".join(step.actions),
            log10_gain=after.gain.log10,
            log10_gain_interval=after.gain.gradient.log10_gain_interval if after.gain.gradient else None,
            verdict=after.gain.verdict,
            input_log10_gain=after.gain.gradient.input_log10_gain if after.gain.gradient else None,
            input_reach=reach,
            saturated=None if math.isnan(after.gain.saturated) else after.gain.saturated,
            mostly_saturated=after.gain.squashed > MOSTLY,
            live=after.gain.live,
            helps=helps(before.gain, after.gain, before.thresholds, reach),
            change=after.change(before),
            redraws=redraws,
            cost=LOST["redrawn" if redraws and same else kind],
            note=_note(after.gain.squashed, reach, before.thresholds),
            figures=step.figures,
        )

    def _training(self, name: str) -> Tried | str:
        treatment, patient = TRAINING[name], self.patient
        reason = treatment.unsuited(patient)
        if reason is not None:
            return reason
        advised = treatment.advise(patient, lambda: self.sound(patient))
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
            input_reach=None,
            saturated=None,
            mostly_saturated=False,
            live=None,
            helps=advised.helps,
            change=None,
            redraws=False,
            cost=treatment.cost,
            note=advised.note,
            figures=advised.figures,
        )
        return Tried(trial, None)


def helps(before: Gain, after: Gain, thresholds: Thresholds, reach: float | None = None) -> bool:
    """Whether a treatment helped.

    Either the verdict became healthy and was not, or the distance of the log10 gain to the healthy band has shrunk
    decidedly: to half of it or less, at the least favorable end of the interval after against the most favorable one
    before, and not by leaping over the band from vanishing to exploding or back.

    A gradient that survives among the states does not help a net whose input is lost on its way to the top. So a
    treatment that takes the ``input_reach`` below the healthy band does not help, unless the net heard its input no
    better before.
    """
    if before.verdict == "healthy":
        return False
    if after.verdict == "healthy":
        lost = reach is not None and reach < thresholds.vanishing
        return not lost or before.input_now <= after.input_now + HEARS_LESS
    if before.gradient is None or after.gradient is None:
        return False
    if {before.verdict, after.verdict} == {"vanishing", "exploding"}:
        return False
    was = min(distance(gain, thresholds) for gain in before.gradient.log10_gain_interval)
    now = max(distance(gain, thresholds) for gain in after.gradient.log10_gain_interval)
    return now < math.inf and now <= DECIDEDLY * was and was > 0


def input_reach(after: Gain, sound: Gain) -> float | None:
    """How far the input reaches to the top of a net, in decades below a sound net of its shape; at most 0.

    It is the smaller of two differences of log10 gains: at the input of the last step, and at the earliest input of the
    lag. None where a gain is not known, or where the input does not reach the top of the sound net either.
    """
    if after.gradient is None or sound.gradient is None:
        return None
    now = after.input_now - sound.input_now
    early = after.gradient.input_log10_gain - sound.gradient.input_log10_gain
    return None if math.isnan(now + early) else min(now, early, 0.0)


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
    def input_reach(self) -> float | None: ...
    @property
    def mostly_saturated(self) -> bool: ...
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

    Of healthy nets, those come last whose input is lost on its way to the top. Before them come those that leave most
    of the slopes saturated, then those in which some of the leading directions die before the lag: a gain in the band
    may be the gain of one direction, and a net that has no other direction seldom learns (``benchmarks/cure.py``). Then
    come those that hear their input faintly, beyond half of the healthy band. Changes are compared by tenths, and
    beyond 1 not at all: the states then have nothing more to do with those before. Then what keeps the trained weights
    comes before what resets them, and one treatment before two.
    """
    change = 1.0 if trial.change is None or math.isnan(trial.change) else min(trial.change, 1.0)
    reach = 0.0 if trial.input_reach is None else trial.input_reach
    return (
        not trial.helps,
        trial.verdict != "healthy",
        distance(trial.log10_gain, thresholds),
        reach < thresholds.vanishing,
        trial.mostly_saturated,
        trial.live is not None and trial.live < 1.0,
        reach < thresholds.vanishing / 2,
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


def _note(saturated: float, reach: float | None, thresholds: Thresholds) -> str:
    notes = []
    if saturated > MOSTLY:
        notes.append(f"{saturated:.0%} of the slopes stay saturated")
    if reach is not None and reach < thresholds.vanishing / 2:
        heard = "is lost on its way to the top" if reach < thresholds.vanishing else "reaches the top faintly"
        notes.append(f"the input {heard}: {power(reach)} of what a sound net of this shape passes")
    return "; ".join(notes)
