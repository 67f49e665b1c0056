"""Whether a quantity drifts over training, how fast, and when it would cross a threshold."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist, median

from rnndiag.measures.series import Series

EXACT = 40
"""Checkpoints up to which the null distribution is exact."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Drift:
    """A robust line through the checkpoints of a window, and how likely it is without any drift."""

    checkpoints: int
    first_step: float
    last_step: float
    first: float
    """of the line, at the first step"""
    last: float
    """of the line, at the last step"""
    slope: float
    """a step: the median of the slopes between all pairs (Theil 1950; Sen 1968)"""
    slope_interval: tuple[float, float]
    """95 %, by Kendall's distribution (Sen 1968)"""
    p_rising: float
    """probability of so many rising pairs, were the checkpoints exchangeable (Mann 1945; Kendall 1975)"""
    p_falling: float

    def crosses(self, threshold: float) -> float:
        """The step at which the line reaches a threshold; infinite where it moves the other way or not at all."""
        return self._reached(threshold, self.slope)

    def crosses_between(self, threshold: float) -> tuple[float, float]:
        """The earliest and the latest such step that the interval of the slope allows."""
        ends = sorted(self._reached(threshold, slope) for slope in self.slope_interval)
        return ends[0], ends[1]

    def _reached(self, threshold: float, slope: float) -> float:
        gap = threshold - self.last
        return self.last_step + gap / slope if gap * slope > 0 else math.inf


def drift(series: Series) -> Drift:
    """The Theil-Sen line and the Mann-Kendall test of a series of two steps or more.

    Checkpoints of the same step count as one, at their median. The p-values assume that under no drift the
    checkpoints are exchangeable; they are exact for up to 40, ties included, and normal beyond.
    """
    at: dict[float, list[float]] = {}
    for step, value in zip(series.steps, series.values, strict=True):
        at.setdefault(step, []).append(value)
    steps, values = list(at), [median(each) for each in at.values()]
    n = len(steps)
    slopes = sorted((values[j] - values[i]) / (steps[j] - steps[i]) for i in range(n) for j in range(i + 1, n))
    slope = median(slopes)
    base = median(value - slope * step for step, value in zip(steps, values, strict=True))
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for i in range(n) for j in range(i + 1, n))
    ties = list(Counter(values).values())
    return Drift(
        n,
        steps[0],
        steps[-1],
        base + slope * steps[0],
        base + slope * steps[-1],
        slope,
        _slope_interval(slopes, n, ties),
        p_rising(score, ties),
        p_rising(-score, ties),
    )


def p_rising(score: int, ties: list[int]) -> float:
    """The probability of a Mann-Kendall score at least as large, were all orders equally likely.

    The score is the number of rising pairs less that of falling ones. The number of falling pairs among all orders of
    a multiset has the Gaussian multinomial coefficient ``[n]! / prod [t]!`` for its generating function (MacMahon).

    Args:
        score: of ``n`` values.
        ties: how often each of the values occurs; they add up to ``n``.
    """
    n = sum(ties)
    pairs = (n * (n - 1) - sum(t * (t - 1) for t in ties)) // 2
    if n <= EXACT:
        orders = [1]
        for size in range(2, n + 1):
            orders = _times(orders, size)
        for tie in ties:
            for size in range(2, tie + 1):
                orders = _over(orders, size)
        return sum(orders[: (pairs - score) // 2 + 1]) / sum(orders)
    deviation = math.sqrt(_variance(n, ties))
    return 1.0 if deviation == 0 else 1 - NormalDist().cdf((score - 1) / deviation)  # scores go by twos


def fewest(level: float) -> int:
    """The fewest checkpoints of which a steady drift has a p-value of ``level`` at the most: ``1/n! <= level``.

    Raises:
        ValueError: for a level under 0, which no p-value reaches.
    """
    if not level >= 0:
        raise ValueError(f"expected a probability, got {level}")
    n = 2
    while 1 / math.factorial(n) > level:
        n += 1
    return n


def _slope_interval(slopes: list[float], n: int, ties: list[int]) -> tuple[float, float]:
    """Order statistics of the slopes, as many apart as the score's deviation says (Sen 1968; Gilbert 1987)."""
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(_variance(n, ties))
    low, high = math.floor((len(slopes) - reach) / 2), math.ceil((len(slopes) + reach) / 2)
    return slopes[max(0, low - 1)], slopes[min(len(slopes) - 1, high)]


def _variance(n: int, ties: list[int]) -> float:
    return (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18


def _times(polynomial: list[int], size: int) -> list[int]:
    """Times ``1 + q + ... + q^(size-1)``."""
    product, running = [], 0
    for power in range(len(polynomial) + size - 1):
        running += polynomial[power] if power < len(polynomial) else 0
        running -= polynomial[power - size] if power >= size else 0
        product.append(running)
    return product


def _over(polynomial: list[int], size: int) -> list[int]:
    """The same undone."""
    quotient: list[int] = []
    for power in range(len(polynomial) - size + 1):
        dropped = quotient[power - size] if power >= size else 0
        quotient.append(polynomial[power] - (polynomial[power - 1] if power else 0) + dropped)
    return quotient
