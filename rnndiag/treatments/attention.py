"""Attention beside the recurrence: from which lag on its constant path wins."""

from __future__ import annotations

import math

from rnndiag.rules.words import steps
from rnndiag.treatments.base import Advised, SoundNet, Training
from rnndiag.treatments.patient import Patient


class Attention(Training):
    """Attend from the last step to all the states before it.

    The path has length 1 whatever the lag, but the weights share one unit among ``l`` steps: spread evenly, each gets
    ``1/l`` (Bahdanau, Cho & Bengio 2015; Vaswani et al. 2017). Attention wins from the lag on at which the measured
    gain falls under ``1/l`` for good, up to the lag of the verdict.
    """

    name, checklist = "attention", "attention"
    cost = "changes the architecture: the attention and the layers that read it must be trained"

    def unsuited(self, patient: Patient) -> str | None:
        if patient.gain.gradient is None:
            return "its states are not finite"
        if patient.gain.verdict == "exploding":
            return "the gradient does not vanish on its way"
        return None

    def advise(self, patient: Patient, sound: SoundNet) -> Advised:
        gradient = patient.gain.gradient
        assert gradient is not None  # it suits
        wins = wins_from(gradient.log10_by_lag[: patient.lag])
        if wins is None:
            return Advised(
                f"within {steps(patient.lag)} the recurrence passes more than attention spread evenly (1/lag)",
                False,
                "",
                {},
                -math.log10(patient.lag),
            )
        return Advised(
            f"attend to earlier steps: from lag {wins} on attention spread evenly (1/lag) passes more",
            patient.gain.verdict == "vanishing",
            "",
            {"wins_from": wins},
            -math.log10(patient.lag),
        )


def wins_from(log10_by_lag: tuple[float, ...]) -> int | None:
    """The first lag from which on the gain lies under ``1/lag``; None if it does not at the last."""
    wins = None
    for lag in range(len(log10_by_lag), 0, -1):
        if log10_by_lag[lag - 1] >= -math.log10(lag):
            break
        wins = lag
    return wins
