"""What counts as help, and which treatment is best."""

from __future__ import annotations

import math
from typing import Protocol

from rnndiag.config import Thresholds
from rnndiag.measures.gain import Gain
from rnndiag.measures.verdict import Verdict
from rnndiag.rules.words import power
from rnndiag.treatments.patient import MOSTLY

DECIDEDLY = 0.5
"""The share of the distance to the healthy band that may be left of it, where the verdict does not become healthy."""

HEARS_LESS = 0.5
"""Decades that the gain at the last input may fall before a treatment counts as the reason why the input is lost."""


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


def note(saturated: float, reach: float | None, thresholds: Thresholds) -> str:
    """What a user should know next to the numbers: what stays saturated, and whether the input is heard."""
    notes = []
    if saturated > MOSTLY:
        notes.append(f"{saturated:.0%} of the slopes stay saturated")
    if reach is not None and reach < thresholds.vanishing / 2:
        heard = "is lost on its way to the top" if reach < thresholds.vanishing else "reaches the top faintly"
        notes.append(f"the input {heard}: {power(reach)} of what a sound net of this shape passes")
    return "; ".join(notes)
