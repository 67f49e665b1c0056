"""TRD: where a run is heading, from its checkpoints in training order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rnndiag.rules.base import Evidence, Finding, Suggestion, Thresholds, TrendRule
from rnndiag.rules.drift import SLOWER, DriftRule, step
from rnndiag.rules.words import power

if TYPE_CHECKING:
    from rnndiag.measures.drift import Drift
    from rnndiag.measures.series import Course

ILL = ("vanishing", "exploding", "mixed", "invalid")
"""Verdicts that are worse than healthy beyond doubt."""

CLIP = Suggestion("clipping", "clip the norm of the gradient", "a gradient that grows through time grows the steps too")


class DriftsTowardChaos(DriftRule):
    """The gradient's gain drifts toward chaos.

    What it does:
        Fires when the log10 gain of a stack at the lag has risen over the last half of the checkpoints, is above 0, and
        at that pace is over the exploding threshold within as many steps again; or has got there meanwhile.

    Why is this bad:
        Each step multiplies what comes from far back by more than 1: small differences of the input decide the output,
        and the gradient's noise grows with the lag. The loss often shows nothing until clipping gives way.

    Formula:
        slope of Theil and Sen, significance by Mann and Kendall's exact test, divided by all that is tested in the run;
        the threshold is crossed at ``last step + (threshold - last) / slope``.

    Example:
        Checkpoints of a net whose ``W_hh`` is 2 % larger at each than at the one before.

    What to do:
        Lower the learning rate, clip the gradient, or decay the recurrent weight; resume before the drift began.

    Thresholds:
        p of 0.01 among all that is tested in the run, crossing within as many steps as the window has, 6 checkpoints.

    References:
        Theil 1950; Sen 1968; Mann 1945; Kendall 1975; Pascanu, Mikolov & Bengio 2013.
    """

    code, name, severity = "TRD001", "drifts-toward-chaos", "warning"
    cause = "recurrent weights that grow as training goes on, often under a learning rate too high"
    thresholds: ClassVar = {"p_value": 0.01, "ahead": 1.0, "checkpoints": 6.0}
    kinds = ("stack",)
    quantity, rising = "log10_gain", True
    warns_of = ("exploding", "mixed", "invalid")
    suggestions = (SLOWER, CLIP)

    def threshold(self, course: Course, at: Thresholds, seen: Drift) -> float:
        return course.exploding

    def concerns(self, seen: Drift) -> bool:
        return seen.last > 0

    def message(self, course: Course, seen: Drift) -> str:
        return f"the gradient's gain over the lag rises from {power(seen.first)} to {power(seen.last)}"


class DriftsTowardVanishing(DriftRule):
    """The gradient's gain drifts toward vanishing.

    What it does:
        Fires when the log10 gain of a stack at the lag has fallen over the last half of the checkpoints, is under 0,
        and at that pace is under the vanishing threshold within as many steps again; or has got there meanwhile.

    Why is this bad:
        What the task needs from far back teaches the net less and less. What it has learned of it may stay for a
        while, and so does the loss; it will not be learned again.

    Formula:
        as of TRD001, downward.

    Example:
        Checkpoints of a net whose ``W_hh`` is 2 % smaller at each than at the one before.

    What to do:
        Less weight decay on ``W_hh``, a lower learning rate; a gated cell, if the lag is long.

    Thresholds:
        p of 0.01 among all that is tested in the run, crossing within as many steps as the window has, 6 checkpoints.

    References:
        Theil 1950; Sen 1968; Mann 1945; Kendall 1975; Bengio, Simard & Frasconi 1994.
    """

    code, name, severity = "TRD002", "drifts-toward-vanishing", "warning"
    cause = "recurrent weights that shrink, as under weight decay, or units that saturate"
    thresholds: ClassVar = {"p_value": 0.01, "ahead": 1.0, "checkpoints": 6.0}
    kinds = ("stack",)
    quantity, rising = "log10_gain", False
    warns_of = ("vanishing", "mixed")

    def threshold(self, course: Course, at: Thresholds, seen: Drift) -> float:
        return course.vanishing

    def concerns(self, seen: Drift) -> bool:
        return seen.last < 0

    def message(self, course: Course, seen: Drift) -> str:
        return f"the gradient's gain over the lag falls from {power(seen.first)} to {power(seen.last)}"


class DriftsTowardSaturation(DriftRule):
    """The units drift into saturation.

    What it does:
        Fires when the share of saturated tanh slopes of a layer has risen over the last half of the checkpoints and at
        that pace is over a half within as many steps again; or has got there meanwhile.

    Why is this bad:
        A saturated unit passes next to no gradient: each that saturates leaves the others to learn alone, with larger
        weights. When the loss shows it, training has little left to undo it with.

    Formula:
        as of TRD001, of the share of ``phi' < 0.1``.

    Example:
        A tanh net trained by Adam at ten times the usual learning rate: benchmarks/drift.md.

    What to do:
        Lower the learning rate, normalise the inputs, decay the weights; resume before the drift began.

    Thresholds:
        share of saturated slopes 0.5; p of 0.01 among all that is tested in the run, crossing within as many steps as
        the window has, 6 checkpoints.

    References:
        Theil 1950; Sen 1968; Mann 1945; Kendall 1975; Glorot & Bengio 2010.
    """

    code, name, severity = "TRD003", "drifts-toward-saturation", "warning"
    cause = "weights and biases that grow as training goes on, often under a learning rate too high"
    thresholds: ClassVar = {"p_value": 0.01, "ahead": 1.0, "checkpoints": 6.0, "rate": 0.5}
    kinds = ("layer",)
    quantity, rising = "saturation", True
    warns_of = ("vanishing", "exploding", "mixed")

    def threshold(self, course: Course, at: Thresholds, seen: Drift) -> float:
        return at["rate"]

    def message(self, course: Course, seen: Drift) -> str:
        return f"the share of saturated units rises from {max(0.0, seen.first):.0%} to {seen.last:.0%}"


class MemoryShrinks(DriftRule):
    """The memory of a stack shrinks.

    What it does:
        Fires when the lag up to which a stack's gradient keeps more than the vanishing threshold has fallen over the
        last half of the checkpoints, to half of what it was or to what will be half within as many steps again.

    Why is this bad:
        The net forgets sooner than it did: longer dependencies, learned or not yet, no longer teach it.

    Formula:
        as of TRD001, of the first lag whose gain is under the vanishing threshold (the probe's length where none is).

    Example:
        A net with a lag far beyond its horizon, whose verdict is the same all along while the horizon falls.

    What to do:
        Less weight decay on ``W_hh``, a lower learning rate; look at what the task rewards: it may need no more.

    Thresholds:
        half of what it was; p of 0.01 among all that is tested in the run, crossing within as many steps as the window
        has, 6 checkpoints.

    References:
        Theil 1950; Sen 1968; Mann 1945; Kendall 1975.
    """

    code, name, severity = "TRD005", "memory-shrinks", "info"
    cause = "training moves toward what the last few steps tell"
    thresholds: ClassVar = {"p_value": 0.01, "ahead": 1.0, "checkpoints": 6.0, "factor": 0.5}
    kinds = ("stack",)
    quantity, rising = "memory", False
    warns_of = ("vanishing", "mixed")

    def threshold(self, course: Course, at: Thresholds, seen: Drift) -> float:
        return at["factor"] * seen.first

    def message(self, course: Course, seen: Drift) -> str:
        return f"the gradient's reach shrinks from {seen.first:.0f} to {max(0.0, seen.last):.0f} steps back"


class VerdictChanged(TrendRule):
    """The verdict was healthy and is so no longer.

    What it does:
        Fires when a stack that was healthy at some checkpoint has been ill at all of the last ones, and so many in a
        row at the end are no accident of the order. Numbers that are not finite need no such proof: they stay.

    Why is this bad:
        The run went wrong, between two steps that it names; later checkpoints are worth less than earlier ones.

    Formula:
        were the order of the checkpoints chance, all of the last ``k`` were among the ``m`` ill ones of ``n`` with
        probability ``prod_i (m - i) / (n - i)``, ``i < k``.

    Example:
        Twelve checkpoints, healthy up to the seventh and exploding from the eighth on.

    What to do:
        Resume from the last healthy checkpoint with a lower learning rate, or with what else the model's own findings
        suggest.

    Thresholds:
        p of 0.01 among all that is tested in the run; none for numbers that are not finite.

    References:
        the hypergeometric distribution.
    """

    code, name, severity = "TRD004", "verdict-changed", "error"
    cause = "training moved the weights out of the healthy band"
    grows_worse = "checkpoints"
    thresholds: ClassVar = {"p_value": 0.01}
    kinds = ("stack",)

    def lacks(self, course: Course, at: Thresholds) -> str | None:
        return None

    def assess_course(self, course: Course, at: Thresholds) -> Iterator[Finding]:
        steps, verdicts = _by_step(course)
        n = len(steps)
        ill = [verdict in ILL for verdict in verdicts]
        run = next((i for i, each in enumerate(reversed(ill)) if not each), n)
        if "healthy" not in verdicts or run == 0:
            return
        p_value = math.prod((sum(ill) - i) / (n - i) for i in range(run))
        if p_value > at["level"] and verdicts[-1] != "invalid":
            return
        before, since = steps[-run - 1], steps[-run]
        last = "at the last checkpoint" if run == 1 else f"at the last {run} checkpoints"
        message = (
            f"{verdicts[-1]} {last}, from step {step(since)} on; {verdicts[-run - 1]} at step {step(before)} "
            f"(p = {p_value:.1g})"
        )
        evidence: Evidence = {
            "before": verdicts[-run - 1],
            "after": verdicts[-1],
            "last_sound_step": before,
            "first_ill_step": since,
            "checkpoints": run,
            "p_value": p_value,
            "level": at["level"],
        }
        yield self.finding(course.name, message, evidence, (SLOWER,))


def _by_step(course: Course) -> tuple[tuple[float, ...], list[str]]:
    """Each step once, with the verdict of most of its files; of as many, the milder.

    Numbers that are not finite are the step's verdict whichever of its files has them.
    """
    at: dict[float, list[str]] = {}
    for each, verdict in zip(course.steps, course.verdicts, strict=True):
        at.setdefault(each, []).append(verdict)
    found = []
    for verdicts in at.values():
        by_rank = sorted(verdicts, key=lambda verdict: verdict in ILL)
        found.append("invalid" if "invalid" in verdicts else max(by_rank, key=verdicts.count))
    return tuple(at), found
