"""The scale at which a measured gain meets a target: bracketed on a grid of factors, then Illinois."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

STEP = 2.0
"""Ratio of neighbouring factors of the grid."""
TOLERANCE = 0.02
"""Decades of the gain."""
MOST = 24
"""Evaluations within the bracket; each at worst halves it every other time."""


@dataclass(frozen=True, slots=True)
class Found:
    """The scale, and the gain measured there."""

    scale: float
    gain: float
    met: bool
    """False where no scale tried meets the target: then it is the scale that comes nearest"""


def grid(limit: float) -> tuple[float, ...]:
    """Factors from 1 (left out) to ``limit``, which may lie above or below 1, ever further from 1."""
    count = math.ceil(abs(math.log(limit)) / math.log(STEP))
    return tuple(limit ** ((i + 1) / count) for i in range(count))


def find_scale(gain: Callable[[float], float], now: float, target: float, ways: Iterable[tuple[float, ...]]) -> Found:
    """Search for ``gain(scale) = target``, the root nearest to 1 on the first way that has one.

    The gain of a finite probe is a continuous function of the scale, though in chaos a rough one. A way is a
    sequence of factors away from 1; where two neighbours lie on both sides of the target, the root between is found by
    false position on ``log scale`` with Illinois' weight for the end that stays (Dowell & Jarratt 1971).

    Args:
        gain: log10 gain at a scale; infinite where states overflow, NaN nowhere.
        now: the gain at scale 1.
        target: the gain that is wanted.
        ways: factors to try, outward from 1; the second way is taken only if the first has no root.
    """
    if abs(now - target) <= TOLERANCE:
        return Found(1.0, now, True)
    tried = [(1.0, now)]
    for factors in ways:
        last = (1.0, now)
        for factor in factors:
            here = (factor, gain(factor))
            tried.append(here)
            if (here[1] - target) * (last[1] - target) <= 0:
                return _within(gain, last, here, target)
            last = here
    scale, best = min(tried, key=lambda pair: abs(pair[1] - target))
    return Found(scale, best, False)


def _within(gain: Callable[[float], float], a: tuple[float, float], b: tuple[float, float], target: float) -> Found:
    (low, f), (high, g) = ((math.log(scale), _bounded(value - target)) for scale, value in (a, b))
    best = min(((low, f), (high, g)), key=lambda pair: abs(pair[1]))
    for _ in range(MOST):
        if abs(best[1]) <= TOLERANCE:
            break
        middle = (low * g - high * f) / (g - f)
        value = _bounded(gain(math.exp(middle)) - target)
        best = min(best, (middle, value), key=lambda pair: abs(pair[1]))
        if value * g < 0:
            low, f = high, g
        else:
            f /= 2
        high, g = middle, value
    return Found(math.exp(best[0]), best[1] + target, True)


def _bounded(difference: float) -> float:
    """Infinite gains (nothing comes through, or states overflow) as finite ones, far away."""
    return max(-1e3, min(1e3, difference))
