"""What counts as help, and which treatment is best."""

from __future__ import annotations

import math
from typing import Protocol

from rnndiag.config.settings import Thresholds
from rnndiag.measures.gain import Gain
from rnndiag.measures.verdict import Verdict
from rnndiag.rules.words import power

MAX_SATURATED_SHARE = 0.5
"""A net with a larger share of saturated slopes is unhealthy, whatever its gain; rule SAT001 has the same threshold."""

MAX_DISTANCE_LEFT = 0.5
"""A treatment without a healthy verdict helps if at most this share of the distance to the healthy band is left."""

MAX_INPUT_LOSS_DECADES = 0.5
"""If the gain at the last input falls by more decades than this, the treatment is the reason why the input is lost."""


def helps(before: Gain, after: Gain, thresholds: Thresholds, reach: float | None = None) -> bool:
    """Whether a treatment helped.

    Either an unhealthy verdict became healthy, or the distance of the log10 gain to the healthy band has shrunk to half
    or less, without a jump over the band from vanishing to exploding or back. The least favorable end of the interval
    after the treatment is compared with the most favorable end before.

    A gradient that survives among the states does not help a net whose input is lost on its way to the top. A treatment
    that takes the ``input_reach`` below the healthy band therefore does not help, unless the input reached the top no
    better before.
    """
    if before.verdict == "healthy":
        return False
    if after.verdict == "healthy":
        lost = reach is not None and reach < thresholds.vanishing
        return not lost or before.input_now <= after.input_now + MAX_INPUT_LOSS_DECADES
    if before.gradient is None or after.gradient is None:
        return False
    if {before.verdict, after.verdict} == {"vanishing", "exploding"}:
        return False
    was = min(distance(gain, thresholds) for gain in before.gradient.log10_gain_interval)
    now = max(distance(gain, thresholds) for gain in after.gradient.log10_gain_interval)
    return now < math.inf and now <= MAX_DISTANCE_LEFT * was and was > 0


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
    """Decades between a gain and the healthy band; infinite for NaN."""
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

    Healthy nets are compared by these criteria, the most important first:

    1. The input is not lost on its way to the top.
    2. Most slopes are not saturated.
    3. All leading directions survive until the lag. Otherwise the gain in the band may be the gain of a single
       direction, and such a net seldom learns (``benchmarks/cure.py``).
    4. The input reaches the top clearly: its reach is within half of the healthy band.
    5. The states change little, by tenths. Changes beyond 1 are equal, because the states are then unrelated to the
       states before.
    6. The trained weights are kept.
    7. One treatment comes before two.
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
    """What a user should know next to the numbers: what stays saturated, and whether the input reaches the top."""
    notes = []
    if saturated > MAX_SATURATED_SHARE:
        notes.append(f"{saturated:.0%} of the slopes stay saturated")
    if reach is not None and reach < thresholds.vanishing / 2:
        heard = "is lost on its way to the top" if reach < thresholds.vanishing else "reaches the top faintly"
        notes.append(f"the input {heard}: {power(reach)} of what a sound net of this shape passes")
    return "; ".join(notes)
