"""Whether a quantity drifts over training, how fast, and when it would cross a threshold."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
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
    steps, values = _once(series)
    n = len(steps)
    ties = list(Counter(values).values())
    slope, interval = _slopes(steps, values, ties)
    base = median(value - slope * step for step, value in zip(steps, values, strict=True))
    score = _score(values)
    return Drift(
        n,
        steps[0],
        steps[-1],
        base + slope * steps[0],
        base + slope * steps[-1],
        slope,
        interval,
        p_rising(score, ties),
        p_rising(-score, ties),
    )


def p_drift(series: Series, *, rising: bool) -> float:
    """``drift(series).p_rising`` or ``.p_falling``, in ``n log n`` where the line takes all ``n^2`` slopes."""
    _, values = _once(series)
    score = _score(values)
    return p_rising(score if rising else -score, list(Counter(values).values()))


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
        orders = _orders(tuple(sorted(ties)))
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


def _once(series: Series) -> tuple[list[float], list[float]]:
    """Each step once, with the median of its values."""
    at: dict[float, list[float]] = {}
    for step, value in zip(series.steps, series.values, strict=True):
        at.setdefault(step, []).append(value)
    return list(at), [median(each) for each in at.values()]


def _score(values: list[float]) -> int:
    """Rising pairs less falling ones, from each value's place among those before it."""
    score = 0
    before: list[float] = []
    for value in values:
        smaller = bisect_left(before, value)
        score += smaller - (len(before) - bisect_right(before, value, smaller))
        insort(before, value)
    return score


def _slopes(steps: list[float], values: list[float], ties: list[int]) -> tuple[float, tuple[float, float]]:
    """The median of the slopes between all pairs, and its interval.

    Its ends are order statistics, as many apart as the score's deviation says (Sen 1968; Gilbert 1987).
    """
    import numpy as np  # not for those who list the rules

    n = len(steps)
    at, y = np.array(steps), np.array(values)
    count = n * (n - 1) // 2
    slopes, done = np.empty(count), 0
    with np.errstate(over="ignore"):
        for i in range(n - 1):
            slopes[done : done + n - 1 - i] = (y[i + 1 :] - y[i]) / (at[i + 1 :] - at[i])
            done += n - 1 - i
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(_variance(n, ties))
    low, high = math.floor((count - reach) / 2), math.ceil((count + reach) / 2)
    places = [(count - 1) // 2, count // 2, max(0, low - 1), min(count - 1, high)]
    slopes.partition(sorted(set(places)))
    below, above, first, last = (float(slopes[place]) for place in places)
    return (below + above) / 2, (first, last)


@lru_cache(maxsize=256)
def _orders(ties: tuple[int, ...]) -> tuple[int, ...]:
    """How many orders of a multiset have 0, 1, 2, ... falling pairs."""
    orders = [1]
    for size in range(2, sum(ties) + 1):
        orders = _times(orders, size)
    for tie in ties:
        for size in range(2, tie + 1):
            orders = _over(orders, size)
    return tuple(orders)


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
