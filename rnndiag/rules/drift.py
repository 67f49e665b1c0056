"""A rule that follows one quantity along a run, and says when it would get to where it must not."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.measures.drift import Drift, drift, fewest, p_drift
from rnndiag.measures.series import Series
from rnndiag.rules.base import Evidence, Finding, Suggestion, Thresholds, TrendRule
from rnndiag.rules.words import counted

if TYPE_CHECKING:
    from rnndiag.measures.series import Course
    from rnndiag.measures.verdict import Verdict

SLOWER = Suggestion(
    "learning-rate",
    "lower the learning rate or let it decay, and resume from a checkpoint before the drift",
    "the drift is one of the weights under training: slower steps drift slower",
)


class DriftRule(TrendRule):
    """A rule that follows one quantity toward a threshold, over the last half of the checkpoints."""

    quantity: ClassVar[str]
    rising: ClassVar[bool]
    warns_of: ClassVar[tuple[Verdict, ...]]
    """what the verdict may become"""
    suggestions: ClassVar[tuple[Suggestion, ...]] = (SLOWER,)
    grows_worse = "slope"

    @abstractmethod
    def threshold(self, course: Course, at: Thresholds, seen: Drift) -> float:
        """Where the quantity must not get to."""

    @abstractmethod
    def message(self, course: Course, seen: Drift) -> str:
        """What happened to the quantity, in words."""

    def concerns(self, seen: Drift) -> bool:
        """Whether the quantity is on the side of the threshold; before, it may as well be recovering."""
        return True

    def lacks(self, course: Course, at: Thresholds) -> str | None:
        series = course.series.get(self.quantity)
        count = len(set(series.steps)) if series is not None else 0
        needed = max(int(at["checkpoints"]), fewest(at["level"]))
        if count >= needed:
            return None
        finite = f"{counted(count, 'checkpoint')} with a finite value" if count else "no checkpoint with a finite value"
        return f"{finite}; a drift differs from chance only with at least {needed}"

    def assess_course(self, course: Course, at: Thresholds) -> Iterator[Finding]:
        series = course.series[self.quantity]
        late = window(series, max(int(at["checkpoints"]), fewest(at["level"])))
        p_value = p_drift(late, rising=self.rising)
        if p_value > at["level"]:
            return
        seen = drift(late)
        threshold = self.threshold(course, at, seen)
        sign = 1 if self.rising else -1
        crossed = sign * (seen.last - threshold) >= 0
        crosses, (earliest, latest) = seen.crosses(threshold), seen.crosses_between(threshold)
        reach = seen.last_step + at["ahead"] * (seen.last_step - seen.first_step)
        from_outside = sign * (seen.first - threshold) < 0
        if not (from_outside and self.concerns(seen) and (crossed or crosses <= reach)):
            return
        evidence: Evidence = {
            "quantity": self.quantity,
            "checkpoints": seen.checkpoints,
            "first_step": seen.first_step,
            "last_step": seen.last_step,
            "first": seen.first,
            "last": seen.last,
            "slope": seen.slope,
            "slope_low": seen.slope_interval[0],
            "slope_high": seen.slope_interval[1],
            "p_value": p_value,
            "level": at["level"],
            "threshold": threshold,
            "crosses_at": None if crossed else crosses,
            "crosses_earliest": None if crossed else earliest,
            "crosses_latest": None if crossed or math.isinf(latest) else latest,
        }
        ahead = "it has crossed the threshold" if crossed else _forecast(crosses, earliest, latest)
        message = (
            f"{self.message(course, seen)} from step {step(seen.first_step)} to {step(seen.last_step)} "
            f"({seen.checkpoints} checkpoints, p = {p_value:.1g}); {ahead}"
        )
        yield self.finding(course.name, message, evidence, self.suggestions)


def window(series: Series, least: int) -> Series:
    """The last half of the checkpoints, and at least so many steps."""
    steps = sorted(set(series.steps))
    start = steps[-max(least, math.ceil(len(steps) / 2))]
    kept = [pair for pair in zip(series.steps, series.values, strict=True) if pair[0] >= start]
    return Series(tuple(pair[0] for pair in kept), tuple(pair[1] for pair in kept))


def step(number: float) -> str:
    """A step for people: whole, where it is."""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.4g}"


def _forecast(crosses: float, earliest: float, latest: float) -> str:
    span = f"{earliest:.0f} to {latest:.0f}" if math.isfinite(latest) else f"{earliest:.0f} or later"
    return f"at this pace the threshold is crossed at step {crosses:.0f} ({span})"
