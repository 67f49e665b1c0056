"""Gradient clipping: a threshold that works in training, what it would cut, and whether it can help at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.measures.update_norms import Learner, UpdateNorms, mean_loss, update_norms
from rnndiag.seeds import generator
from rnndiag.treatments.base import Advised, SoundNet, Training
from rnndiag.treatments.patient import Patient

BATCHES = 20
"""Updates whose gradient is measured."""

SOUND_BATCHES = 5
"""Updates of the sound net whose gradient is measured; they differ little."""

UPDATES = 20
"""Updates that are made on a copy, with clipping and without."""

SGD_RATE = 0.1
"""The learning rate of the updates that are tried: it is high for plain SGD, so the result also holds for lower
rates."""

LAST_UPDATES = 4
"""The loss after the trial is the mean over this many last updates."""

DIVERGENCE_RATIO = 10.0
"""Training diverges if the largest loss is at least this multiple of the first loss; random targets explain less."""

STOP_RATIO = 1e3
"""The trial ends early if the loss reaches this multiple of the first loss."""

THRESHOLD_DIVISOR = 4.0
"""The factor between a threshold with which training diverges and the next one that is tried."""

LARGE_UPDATE_RATIO = 10.0
"""Updates are unusually large if their 95th percentile is this multiple of their median, or if their median is this
multiple of the typical norm of a sound net."""

NEARLY_ALL_SHARE = 0.9
"""Clipping cuts nearly all updates if it cuts at least this share of them."""


@dataclass(frozen=True, slots=True)
class Descent:
    """The loss of a few updates of SGD at ``SGD_RATE`` on random targets."""

    first: float
    last: float
    """mean over the last updates; infinite where the loss overflows"""
    largest: float

    @property
    def diverges(self) -> bool:
        """Whether the loss grows far beyond what random targets explain."""
        return not self.largest < DIVERGENCE_RATIO * self.first


class Clip(Training):
    """Clip the norm of the gradient at ``c``: ``g <- g c / ||g||`` where ``||g|| > c``.

    ``c`` is the typical norm of an update (mean of the lower nine tenths over probe batches; Pascanu, Mikolov & Bengio
    2013, section 3.2), of this net or of a sound net of its shape (``treatments.sound``), whichever is smaller: an
    exploding net has no ordinary update that could determine ``c``. The loss is that of
    ``measures.update_norms.Learner``: the mean squared error of a linear readout of the last state, targets of unit
    variance.

    The threshold is tried on a copy: 20 updates of SGD at a learning rate of 0.1 on random targets, with clipping and
    without. If the loss diverges with clipping too, ``c`` is divided by 4, at most twice. Clipping is needed where
    training diverges without it, where the stack explodes, where the 95th percentile of ``||g||`` is ten times the
    median, and where the median is ten times what a sound net has. It helps where it is needed and training does not
    diverge with it. Clipping limits the damage of an exploding gradient to the weights, but the gain through time does
    not change. Clipping makes no gradient larger, so it cannot cure vanishing.
    """

    name, checklist = "clip", "clipping"

    def unsuited(self, patient: Patient) -> str | None:
        return None if patient.gain.gradient is not None else "its states are not finite"

    def advise(self, patient: Patient, sound: SoundNet) -> Advised:
        norms = measured_norms(patient)
        figures = {"median": norms.median, "tail": norms.tail}
        norm = f"the norm of an update is {norms.median:.3g} (median; 95th percentile {norms.upper:.3g})"
        if patient.gain.verdict == "vanishing" and norms.tail < LARGE_UPDATE_RATIO:
            note = "clipping cannot cure vanishing: it makes no gradient larger"
            return Advised(f"no clipping is needed: {norm}", False, note, figures, patient.gain.log10)
        ordinary = sound_norms(patient, sound()).typical
        typical = min(norms.typical, ordinary)
        without = descent(patient, math.inf)
        large = norms.tail >= LARGE_UPDATE_RATIO or norms.median >= LARGE_UPDATE_RATIO * ordinary
        if not (patient.gain.verdict == "exploding" or large or without.diverges):
            note = "the updates have an ordinary norm, and training does not diverge without clipping"
            return Advised(f"no clipping is needed: {norm}", False, note, figures, patient.gain.log10)
        for threshold in (typical, typical / THRESHOLD_DIVISOR, typical / THRESHOLD_DIVISOR**2):
            clipped = descent(patient, threshold)
            if not clipped.diverges:
                break
        share = norms.share_over(threshold)
        figures |= {"threshold": threshold, "share_over": share, "learning_rate": SGD_RATE, "loss": clipped.first}
        figures |= {"loss_clipped": clipped.last, "loss_unclipped": without.largest}
        return Advised(
            f"clip the gradient's norm at c = {threshold:.2g} (for a mean squared error of a linear readout of the "
            f"last state, targets of unit variance). It cuts {share:.0%} of the updates: {norm}. {UPDATES} updates of "
            f"SGD with learning rate {SGD_RATE:g} on random targets change the loss from {clipped.first:.2g} to "
            f"{_loss(clipped.last)} with clipping. {_unclipped(without)}",
            not clipped.diverges,
            _note(clipped, share),
            figures,
            patient.gain.log10,
        )


def _note(clipped: Descent, share: float) -> str:
    if clipped.diverges:
        return "clipping does not help: training diverges with it too; change the weights"
    if share >= NEARLY_ALL_SHARE:
        return "clipping alone does not help enough: it cuts nearly all updates; change the weights too"
    return "clipping limits the updates; the gain through time does not change"


def _unclipped(descent: Descent) -> str:
    if descent.diverges:
        return f"Without clipping, training diverges: the loss reaches {_loss(descent.largest)}"
    return f"Without clipping, the loss changes to {_loss(descent.last)}"


def _loss(loss: float) -> str:
    return f"{loss:.2g}" if math.isfinite(loss) else "infinity"


def measured_norms(patient: Patient) -> UpdateNorms:
    """``||g||`` over 20 batches of the probe's kind, or resampled from its own sequences."""
    return update_norms(patient.working, batches(patient, BATCHES), generator=_stream(patient))


def sound_norms(patient: Patient, sound: Patient) -> UpdateNorms:
    """``||g||`` of a sound net on the first batches of a patient."""
    return update_norms(sound.working, batches(patient, SOUND_BATCHES), generator=_stream(patient))


def descent(patient: Patient, clip: float) -> Descent:
    """Train a copy on the CPU, so that the numbers do not depend on the device that measures the rest."""
    copy = patient.stack.to(patient.bench.dtype)
    losses = Learner(copy, _stream(patient)).descend(
        (inputs.cpu() for inputs in batches(patient, UPDATES)), SGD_RATE, clip, stop=STOP_RATIO
    )
    return Descent(losses[0], mean_loss(losses[-LAST_UPDATES:]), max(losses))


def _stream(patient: Patient) -> torch.Generator:
    """The random stream of readout and targets, which is the same for all nets that are compared."""
    return generator(patient.settings.seed, "clip")


def batches(patient: Patient, count: int) -> Iterator[Tensor]:
    """Inputs ``[T, B, D]`` of that many updates: fresh draws, or sequences of an array drawn with replacement."""
    probe = patient.probe
    stream = generator(patient.settings.seed, "batches")
    for index in range(count):
        if probe.array is None:
            yield replace(probe, seed=probe.seed + 1 + index).inputs(patient.stack).to(patient.inputs)
        else:
            rows = torch.randint(probe.batch, (probe.batch,), generator=stream)
            yield patient.inputs[:, rows]
