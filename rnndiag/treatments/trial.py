"""Try treatments on copies of a stack, and judge each by the same measurement as before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rnndiag.cells.layer import Stack
from rnndiag.measures.verdict import Verdict
from rnndiag.rules.base import Checklist
from rnndiag.treatments.judging import MAX_SATURATED_SHARE, helps, input_reach, note
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.registry import TRAINING, TREATMENTS
from rnndiag.treatments.sound import sound_net

Kind = Literal["weights", "architecture", "training"]

COSTS = {
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
    """how well the input reaches the top after the treatment, compared with a sound net of the same shape (see
    ``judging.input_reach``); None if the treated stack is not healthy"""
    saturated: float | None
    """the largest ``saturation.rate`` of the layers after the treatment"""
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
    """what the treatment costs a trained net; empty if no weight changes"""
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
class NotTried:
    """A treatment that was not tried on a stack, and the reason."""

    name: str
    stack: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Step:
    """A patient after the treatments so far, with what was done."""

    patient: Patient
    actions: tuple[str, ...]
    figures: Mapping[str, float]


class Trials:
    """All trials on one stack; each treatment is tried once."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self._steps: dict[str, _Step | NotTried] = {}
        self._done: dict[str, Tried | NotTried] = {}
        self._sound: dict[tuple[str, ...], Patient] = {}

    def of(self, name: str) -> Tried | NotTried:
        """The outcome of a treatment, a pair of treatments or a change of training, by name."""
        if name not in self._done:
            self._done[name] = self._of(name)
        return self._done[name]

    def sound(self, patient: Patient) -> Patient:
        """A sound net of the shape of a patient, made once for each architecture."""
        cells = tuple(layer.cell for layer in patient.stack.layers)
        if cells not in self._sound:
            self._sound[cells] = sound_net(patient)
        return self._sound[cells]

    def patient_after(self, name: str) -> Patient:
        """The patient after a treatment of layers, or a pair of treatments, that was tried."""
        step = self._step(tuple(name.split("+")))
        assert isinstance(step, _Step)  # it was tried
        return step.patient

    def _not_tried(self, name: str, reason: str) -> NotTried:
        return NotTried(name, self.patient.stack.name, reason)

    def _of(self, name: str) -> Tried | NotTried:
        if name in TRAINING:
            return self._training(name)
        members = tuple(name.split("+"))
        step = self._step(members)
        if isinstance(step, NotTried):
            return step
        return Tried(self._judged(name, members, step), step.patient.as_stored)

    def _step(self, members: tuple[str, ...]) -> _Step | NotTried:
        name = "+".join(members)
        if name not in self._steps:
            self._steps[name] = self._applied(members)
        return self._steps[name]

    def _applied(self, members: tuple[str, ...]) -> _Step | NotTried:
        *first, last = members
        name = "+".join(members)
        before = self._step(tuple(first)) if first else _Step(self.patient, (), {})
        if isinstance(before, NotTried):
            return self._not_tried(name, before.reason)
        if first and before.patient.gain.verdict == "healthy":
            return self._not_tried(name, f"{first[0]} alone heals it")
        treatment = TREATMENTS[last]
        reason = treatment.unsuited(before.patient)
        if reason is not None:
            return self._not_tried(name, reason)
        applied = treatment.apply(before.patient)
        if not _changed(before.patient.stack, applied.stack):
            return self._not_tried(name, "it changes nothing here: no other value is better")
        patient = before.patient.with_stack(applied.stack)
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
            mostly_saturated=after.gain.squashed > MAX_SATURATED_SHARE,
            live=after.gain.live,
            helps=helps(before.gain, after.gain, before.thresholds, reach),
            change=after.change(before),
            redraws=redraws,
            cost=COSTS["redrawn" if redraws and same else kind],
            note=note(after.gain.squashed, reach, before.thresholds),
            figures=step.figures,
        )

    def _training(self, name: str) -> Tried | NotTried:
        treatment, patient = TRAINING[name], self.patient
        reason = treatment.unsuited(patient)
        if reason is not None:
            return self._not_tried(name, reason)
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


def _changed(before: Stack, after: Stack) -> tuple[str, ...]:
    pairs = zip(before.layers, after.layers, strict=True)
    return tuple(
        new.name
        for old, new in pairs
        if new.cell != old.cell or any(not p.equal(old.parameters[n]) for n, p in new.parameters.items())
    )
