"""A sweep as CSV."""

from __future__ import annotations

from rnndiag.printable import csv_line
from rnndiag.sweep.result import Sweep

COLUMNS = (
    "rate",
    "rate_low",
    "rate_high",
    "theory_rate",
    "log10_gain",
    "log10_gain_low",
    "log10_gain_high",
    "verdict",
    "rms_gain",
    "saturation",
    "lag",
)
"""The columns after the axes and before ``critical_sigma`` and ``theory_critical_sigma``."""


def render(sweep: Sweep) -> str:
    """One line per point; a number that could not be measured is empty."""
    critical = {c.at: c for c in sweep.critical}
    lines = [csv_line([*sweep.axes, *COLUMNS, "critical_sigma", "theory_critical_sigma"])]
    for point in sweep.points:
        low, high = point.rate_range or (None, None)
        least, most = point.log10_gain_interval or (None, None)
        here = critical.get(tuple(item for item in point.condition if item[0] != "sigma"))
        lines.append(
            csv_line(
                [
                    *dict(point.condition).values(),
                    *(point.rate, low, high, point.theory_rate, point.log10_gain, least, most, point.verdict),
                    *(point.rms_gain, point.saturation, point.lag),
                    *((here.sigma, here.theory) if here else (None, None)),
                ]
            )
        )
    return "".join(lines)
