"""Roots of a function that somebody else evaluates, so that many are found in step."""

from __future__ import annotations

import math
from collections.abc import Generator

Search = Generator[float, float, float]
"""Yields where it wants the function's value, is sent it, and returns the root."""


def root(low: float, at_low: float, high: float, at_high: float, tolerance: float) -> Search:
    """A root between two points at which a function has different signs, to an absolute tolerance.

    Inverse quadratic interpolation through the last three points where they are monotone enough for it, bisection
    where they are not (Chandrupatla 1997); the first guess is the secant's. The bracket never opens: a function
    that is rough, as a growth rate is in chaos, costs steps but not the root.
    """
    a, fa, b, fb = low, at_low, high, at_high
    for point, value in ((a, fa), (b, fb)):
        if value == 0:
            return point
    # Away from the ends, of which nothing more is learnt.
    t = min(max(fa / (fa - fb), 0.05), 0.95) if math.isfinite(fa - fb) else 0.5
    while True:
        x = a + t * (b - a)
        fx = yield x
        if (fx > 0) == (fa > 0):
            c, fc = a, fa
        else:
            c, fc, b, fb = b, fb, a, fa
        a, fa = x, fx
        closest, value = (a, fa) if abs(fa) < abs(fb) else (b, fb)
        least = tolerance / abs(b - a)
        if value == 0 or least > 0.5:
            return closest
        t = min(max(_interpolated(a, fa, b, fb, c, fc), least), 1 - least)


def _interpolated(a: float, fa: float, b: float, fb: float, c: float, fc: float) -> float:
    """Where between ``a`` (0) and ``b`` (1) to look next."""
    if not math.isfinite(fa + fb + fc) or fb == fc:
        return 0.5
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    if not (phi**2 < xi and (1 - phi) ** 2 < 1 - xi):
        return 0.5
    return fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
