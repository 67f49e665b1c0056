"""The scale at which a measured gain meets a target: bracketed on a grid of factors, then Illinois."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

GRID_RATIO = 2.0
"""The ratio of neighboring factors of the grid."""
TOLERANCE = 0.05
"""Decades by which the gain may miss the target."""
SAMPLE_TOLERANCE = 0.2
"""The same tolerance for a sample of the sequences, which only shows where to look."""
NEAR_FACTORS = (1.02, 1.1, 1.5, 4.0)
"""The root on all sequences is searched within these factors of the sample's root."""
MAX_EVALUATIONS = 24
"""The largest number of evaluations within a bracket. In the worst case every second evaluation halves the bracket."""

Gain = Callable[[float], float]
"""log10 gain at a scale; infinite where states overflow, NaN nowhere."""


@dataclass(frozen=True, slots=True)
class Found:
    """The scale, and the gain measured there."""

    scale: float
    gain: float
    met: bool
    """False where no scale tried meets the target: then it is the scale that comes nearest"""
    crossed: bool = False
    """whether gains on both sides of the target were measured; a gain that jumps crosses it and never meets it"""


def grid(limit: float) -> tuple[float, ...]:
    """Factors from 1 (left out) to ``limit``, which may lie above or below 1, ever further from 1."""
    count = math.ceil(abs(math.log(limit)) / math.log(GRID_RATIO))
    return tuple(limit ** ((i + 1) / count) for i in range(count))


def find_scale(
    gain: Gain, sample: Gain, target: float, ways: Iterable[tuple[float, ...]], tolerance: float = TOLERANCE
) -> Found:
    """Search for ``gain(scale) = target``: roughly on a sample of the sequences, then near there on all of them.

    Args:
        gain: on all sequences.
        sample: the same on few, at a fraction of the cost.
        target: the gain that is wanted.
        ways: factors to try, outward from 1; a later way is taken only if those before have no root.
        tolerance: of the gain, in decades.
    """
    rough = _search(sample, 1.0, target, ways, max(tolerance, SAMPLE_TOLERANCE))
    if not rough.met and not rough.crossed:
        there = gain(rough.scale)
        return Found(rough.scale, there, abs(there - target) <= tolerance)
    up = tuple(rough.scale * factor for factor in NEAR_FACTORS)
    down = tuple(rough.scale / factor for factor in NEAR_FACTORS)
    return _search(gain, rough.scale, target, (up, down), tolerance)


def _search(gain: Gain, start: float, target: float, ways: Iterable[tuple[float, ...]], tolerance: float) -> Found:
    """The root nearest to a start on the first way that has one.

    The gain on a finite probe is a continuous function of the scale, though in chaos a rough one. A way is a
    sequence of scales away from the start; where two neighbors lie on both sides of the target, the root between is
    found by false position on ``log scale`` with Illinois' weight for the end that stays (Dowell & Jarratt 1971).
    """
    now = gain(start)
    if abs(now - target) <= tolerance:
        return Found(start, now, True)
    tried = [(start, now)]
    for scales in ways:
        last = (start, now)
        for scale in scales:
            here = (scale, gain(scale))
            tried.append(here)
            if (here[1] - target) * (last[1] - target) <= 0:
                return _within(gain, last, here, target, tolerance)
            last = here
    scale, best = min(tried, key=lambda pair: abs(pair[1] - target))
    return Found(scale, best, False)


def _within(gain: Gain, a: tuple[float, float], b: tuple[float, float], target: float, tolerance: float) -> Found:
    (low, f), (high, g) = ((math.log(scale), _bounded(value - target)) for scale, value in (a, b))
    best = min(((low, f), (high, g)), key=lambda pair: abs(pair[1]))
    for _ in range(MAX_EVALUATIONS):
        if abs(best[1]) <= tolerance:
            break
        middle = (low * g - high * f) / (g - f)
        value = _bounded(gain(math.exp(middle)) - target)
        best = min(best, (middle, value), key=lambda pair: abs(pair[1]))
        if value * g < 0:
            low, f = high, g
        else:
            f /= 2
        high, g = middle, value
    return Found(math.exp(best[0]), best[1] + target, abs(best[1]) <= tolerance, crossed=True)


def _bounded(difference: float) -> float:
    """Infinite gains (nothing comes through, or states overflow) as finite ones, far away."""
    return max(-1e3, min(1e3, difference))
