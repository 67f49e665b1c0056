"""How rules write numbers into sentences."""

from __future__ import annotations

import math


def power(log10: float) -> str:
    """``10^-12`` style, with a decimal where the exponent is small."""
    if not math.isfinite(log10):
        return "0" if log10 < 0 else "infinity"
    return f"{10**log10:.2g}" if abs(log10) < 3 else f"10^{log10:.0f}"


def steps(count: int) -> str:
    """``1 step``, ``34 steps``."""
    return counted(count, "step")


def counted(count: int, noun: str) -> str:
    """``1 checkpoint``, ``2 checkpoints``, ``3 entries``."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def log10_gain(value: float) -> str:
    """``log10 gain -10.4``, with three significant digits."""
    return f"log10 gain {value:.3g}"
