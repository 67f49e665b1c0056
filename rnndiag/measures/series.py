"""One quantity over training, and all that is known of a layer or stack over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the catalogue of rules is printed without torch
    from rnndiag.measures.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity at those checkpoints at which it was measured, in training order."""

    steps: tuple[float, ...]
    values: tuple[float, ...]
    """all finite"""

    def until(self, step: float) -> Series:
        """What was known at a step."""
        count = sum(each <= step for each in self.steps)
        return Series(self.steps[:count], self.values[:count])


@dataclass(frozen=True, slots=True)
class Course:
    """A layer or a stack along a run: what the rules of trends look at."""

    name: str
    kind: str
    """``stack``, ``layer``, or ``relu layer``, of which inactive units are no sign of illness"""
    steps: tuple[float, ...]
    verdicts: tuple[Verdict, ...]
    series: Mapping[str, Series]
    vanishing: float
    """log10 of the gain under which the gradient has vanished"""
    exploding: float
    layers: tuple[str, ...]
    """of a stack; a layer's own name"""
    paths: tuple[str, ...] = ()
    """the file of each checkpoint; empty where it is not known"""
    breaks: tuple[str | None, ...] = ()
    """what is NaN or infinite at each checkpoint, or None; empty if it is not known"""
    members: tuple[Course, ...] = ()
    """the layers of a stack along the run"""

    def until(self, step: float) -> Course:
        """What was known at a step."""
        count = sum(each <= step for each in self.steps)
        series = {name: each.until(step) for name, each in self.series.items()}
        return replace(
            self,
            steps=self.steps[:count],
            verdicts=self.verdicts[:count],
            series=series,
            paths=self.paths[:count],
            breaks=self.breaks[:count],
            members=tuple(each.until(step) for each in self.members),
        )
