"""Gradient clipping: the threshold, what it would touch, and whether it can help at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rnndiag.measures.update_norms import UpdateNorms, summarise, update_norms
from rnndiag.seeds import generator
from rnndiag.treatments.base import Advised, Training
from rnndiag.treatments.patient import Patient

BATCHES = 20
"""Updates whose gradient is measured."""

HEAVY = 10.0
"""The 95th percentile over the median from which on single updates undo many others."""


ALL = 0.9
"""The share of touched updates from which on training would follow directions alone."""


class Clip(Training):
    """Clip the norm of the gradient at ``c``: ``g <- g c / ||g||`` where ``||g|| > c``.

    ``||g||`` is measured over 20 probe batches, and ``c`` follows from it (``measures.update_norms``; Pascanu, Mikolov
    & Bengio 2013). Clipping bounds what an exploding gradient does to the weights; it makes no gradient longer, so it
    cannot cure vanishing, and the gain through time stays what it was. It helps where the stack explodes, or where the
    95th percentile of ``||g||`` is ten times the median or more.
    """

    name, checklist = "clip", "clipping"

    def unsuited(self, patient: Patient) -> str | None:
        return None if patient.gain.gradient is not None else "its states are not finite"

    def advise(self, patient: Patient) -> Advised:
        found = measured_norms(patient)
        explodes, heavy = patient.gain.verdict == "exploding", found.tail >= HEAVY
        if patient.gain.verdict == "vanishing" and not heavy:
            note = "it cannot cure vanishing: no gradient gets longer"
        elif not explodes and not heavy:
            note = "the updates are much alike: nothing to clip"
        elif found.share_over >= ALL:
            note = "bounds the updates, but nearly all of them: treat the weights too"
        else:
            note = "bounds the updates; the gain through time stays"
        return Advised(
            f"clip the gradient's norm at c = {found.threshold:.3g} (for a loss with ||dL/dh|| = 1 at the last "
            f"step), which touches {found.share_over:.0%} of the updates: their median norm is {found.median:.3g}, the "
            f"95th percentile {found.upper:.3g}",
            explodes or heavy,
            note,
            {"threshold": found.threshold, "share_over": found.share_over, "median": found.median, "tail": found.tail},
            patient.gain.log10,
        )


def measured_norms(patient: Patient) -> UpdateNorms:
    """``||g||`` over 20 batches of the probe's kind, or resampled from its own sequences."""
    gradient, stream = patient.gain.gradient, generator(patient.settings.seed, "clip")
    norms = update_norms(patient.measured, batches(patient), generator=stream)
    tame = norms
    horizon = None if gradient is None else gradient.horizon
    if gradient is not None and horizon is not None and gradient.log10_by_lag[horizon - 1] > 0:
        reach = max(1, horizon - 1)
        tame = update_norms(patient.measured, (batch[-reach:] for batch in batches(patient)), generator=stream)
    return summarise(norms, tame)


def batches(patient: Patient) -> Iterator[Tensor]:
    """Inputs ``[T, B, D]`` of 20 updates: drawn afresh, or sequences of an array with replacement."""
    probe, like = patient.probe, patient.measured.layers[0].weight_hh
    stream = generator(patient.settings.seed, "batches")
    for index in range(BATCHES):
        if probe.array is None:
            yield replace(probe, seed=probe.seed + 1 + index).inputs(patient.stack).to(like)
        else:
            rows = torch.randint(probe.batch, (probe.batch,), generator=stream)
            yield patient.inputs[:, rows]
