"""How numbers are written for people."""

from __future__ import annotations

import math


def short(value: float | None, digits: int = 3) -> str:
    """About ``digits`` significant digits, in at most eight characters."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:.{digits}g}"


def signed(value: float) -> str:
    """Two decimals under ten, one under a thousand: for log10 gains."""
    if not math.isfinite(value):
        return short(value)
    return f"{value:z.2f}" if abs(value) < 10 else (f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}")


def percent(share: float) -> str:
    """Whole percents, with ``<1%`` and ``>99%`` where rounding would hide something."""
    if math.isnan(share):
        return "-"
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"
