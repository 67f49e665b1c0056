"""The verdict on a gain at a lag: a name, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rnndiag.config.settings import Thresholds

Verdict = Literal["healthy", "vanishing", "exploding", "mixed", "inconclusive", "invalid"]

WORST_FIRST: tuple[Verdict, ...] = ("invalid", "exploding", "vanishing", "mixed", "inconclusive", "healthy")

MINORITY = 0.25
"""Share of the sequences that must clearly lie on another side for a net to be called mixed."""

CLEARLY = 1.0
"""Decades past a threshold that count as clearly past it."""


def worst(verdicts: list[Verdict]) -> Verdict:
    """The most serious of several verdicts."""
    return min(verdicts, key=WORST_FIRST.index)


def judge(samples: Tensor, interval: tuple[float, float], thresholds: Thresholds) -> Verdict:
    """Name what happens to the gradient at one lag.

    Args:
        samples: log10 gain for each draw and sequence, ``[R, B]``.
        interval: confidence interval of the median over sequences.
        thresholds: the band between vanishing and exploding.

    ``mixed`` needs at least a quarter of the sequences a decade past a threshold in all their draws, and
    another quarter as clearly on its other side; a cloud around a threshold is ``inconclusive``.
    """
    if bool(samples.isnan().any()):
        return "invalid"
    if samples.shape[1] > 1 and _split(samples, thresholds):
        return "mixed"
    low, high = interval
    if high < thresholds.vanishing:
        return "vanishing"
    if low > thresholds.exploding:
        return "exploding"
    if low >= thresholds.vanishing and high <= thresholds.exploding:
        return "healthy"
    return "inconclusive"


def _split(samples: Tensor, thresholds: Thresholds) -> bool:
    lowest, highest = samples.amin(0), samples.amax(0)
    for threshold in (thresholds.vanishing, thresholds.exploding):
        under = float((highest < threshold - CLEARLY).double().mean())
        over = float((lowest > threshold + CLEARLY).double().mean())
        if min(under, over) >= MINORITY:
            return True
    return False


def sequences_to_settle(median: float, interval: tuple[float, float], batch: int, thresholds: Thresholds) -> int | None:
    """About how many sequences would bring the interval clear of the threshold it straddles.

    The half width of the interval falls as ``1/sqrt(B)``. None where no threshold is straddled, or
    where the median lies so close to one that over a million would be needed.
    """
    low, high = interval
    straddled = [t for t in (thresholds.vanishing, thresholds.exploding) if low <= t <= high]
    if not straddled or not all(map(math.isfinite, (low, high, median))):
        return None
    distance = min(abs(median - t) for t in straddled)
    half = max(high - median, median - low)
    if distance == 0 or half == 0:
        return None
    needed = math.ceil(batch * (half / distance) ** 2) + 1
    return needed if needed <= 1_000_000 else None


NonlinearityName = Literal["tanh", "relu"]


@dataclass(frozen=True, slots=True)
class Alternative:
    """A layer or stack under the nonlinearity that was not assumed, and its verdict under the assumed one."""

    assumed: NonlinearityName
    assumed_verdict: Verdict
    nonlinearity: NonlinearityName
    """the nonlinearity that was not assumed"""
    verdict: Verdict
    """the verdict under it; ``invalid`` where a state overflows"""
    log10_gain: float | None
    """the median log10 gain at the lag under it; None where a state overflows"""

    @property
    def undecided(self) -> bool:
        """Whether the verdict depends on the nonlinearity."""
        return self.verdict != self.assumed_verdict
