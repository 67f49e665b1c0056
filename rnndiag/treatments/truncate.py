"""Truncated backpropagation through time."""

from __future__ import annotations

from rnndiag.rules.words import power, steps
from rnndiag.treatments.base import Advised, SoundNet, Training
from rnndiag.treatments.patient import Patient


class Truncate(Training):
    """Backpropagate only as far as the horizon, the last lag at which the gain lies within the healthy band.

    Where the gain leaves the band upwards, the updates stay bounded, and dependencies beyond the horizon are given up
    (Williams & Peng 1990). Where it leaves it downwards, nothing is lost and work is saved, but nothing is cured.
    """

    name, checklist = "truncate", "truncation"

    def unsuited(self, patient: Patient) -> str | None:
        gradient = patient.gain.gradient
        if gradient is None:
            return "its states are not finite"
        if gradient.horizon is None or gradient.horizon > patient.lag:
            return "the gain stays within the healthy band up to the lag"
        return "already the first step leaves the healthy band" if gradient.horizon == 1 else None

    def advise(self, patient: Patient, sound: SoundNet) -> Advised:
        gradient = patient.gain.gradient
        assert gradient is not None  # it suits
        assert gradient.horizon is not None
        reach = gradient.horizon - 1
        there = gradient.log10_by_lag[reach - 1]
        explodes = gradient.log10_by_lag[reach] > patient.thresholds.exploding
        beyond = f"dependencies longer than {steps(reach)} are given up"
        return Advised(
            f"truncate backpropagation at {steps(reach)}, where the gain is {power(there)}",
            explodes,
            beyond if explodes else "what it cuts off has vanished already",
            {"steps": reach, "log10_gain": there},
            there,
        )
