"""A sweep as JSON, as CSV, and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from rnndiag.printable import csv_line, json_text
from rnndiag.renderers.heatmap import HeatMap, critical_words
from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.renderers.rate_curve import RateCurve
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.renderers.tables import titled_table
from rnndiag.report import SCHEMA_VERSION, finite
from rnndiag.sweep.axes import KINDS, varying
from rnndiag.sweep.result import Sweep, SweepPoint
from rnndiag.version import __version__

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
"""of the CSV, after the axes and before ``critical_sigma`` and ``theory_critical_sigma``"""

CURVE_FROM = 4
"""values of a number from which on a curve says more than a table alone"""


def as_json(sweep: Sweep) -> str:
    """One document; numbers that are not finite are strings, as in a report.

    ``critical_sigma`` is a number where sigma alone varies, and a list by value of the other axis where two do;
    ``critical`` has each of them with its interval, theory's and every net's.
    """
    names = varying(sweep.axes)
    sigmas = [critical.sigma for critical in sweep.critical]
    document = {
        "schema_version": SCHEMA_VERSION,
        "rnndiag_version": __version__,
        "complete": sweep.complete,
        "axes": {name: sweep.axes[name] for name in names},
        "fixed": {name: values[0] for name, values in sweep.axes.items() if name not in names}
        | {name: value for name, value in sweep.fixed.items() if name != "axes"},
        "points": [_point(point) for point in sweep.points],
        "critical_sigma": None if not sigmas else sigmas if len(names) > 1 else sigmas[0],
        "critical": [
            {**dict(c.at), "sigma": c.sigma, "interval": c.interval, "theory": c.theory, "roots": c.roots}
            for c in sweep.critical
        ],
        "notes": sweep.notes,
    }
    return json_text(finite(document)) + "\n"


def _point(point: SweepPoint) -> dict[str, Any]:
    numbers = asdict(point)
    return {**dict(numbers.pop("condition")), **numbers}


def as_csv(sweep: Sweep) -> str:
    """A line a point; what could not be measured is empty."""
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


TEXTS: dict[str, Callable[[Sweep], str]] = {"json": as_json, "csv": as_csv}
"""A format that is text, and what writes it."""


def table(sweep: Sweep) -> RenderableType:
    """A map where two axes vary, a curve and a table where one does."""
    return Group(*_parts(sweep))


def _parts(sweep: Sweep) -> Iterator[RenderableType]:
    names = varying(sweep.axes)
    yield Text(_common(sweep), style="dim")
    if not sweep.complete:
        done, total = len(sweep.points), sweep.total
        what = f"{done} of {total} points" if done < total else "all points, but not their critical sigma"
        yield Text(f"Partial: {what}.", style="bold yellow")
    if not sweep.points:
        return
    if len(names) == 2:
        yield Text()
        yield HeatMap(sweep)
    else:
        (name,) = names or ("sigma",)
        if KINDS[name].numeric and len(sweep.points) >= CURVE_FROM:
            yield Text("\nRate of the gradient, nats/step", style="bold")
            yield RateCurve(sweep, name)
        yield _points_table(sweep, name)
        for critical in sweep.critical:
            yield Text(f"\nCritical sigma  {critical_words(critical)}  (measured ± uncertainty, theory)", style="bold")
    for note in sweep.notes:
        yield Text(f"\n{note}")


def _common(sweep: Sweep) -> str:
    """What all points have in common, on one line."""
    names, fixed = varying(sweep.axes), sweep.fixed
    told = {name: values[0] for name, values in sweep.axes.items() if name not in names}
    words = [str(told.pop(name)) for name in ("cell", "init") if name in told]
    words += [f"{KINDS[name].heading} {short(v) if isinstance(v, float) else v}" for name, v in told.items() if v]
    probe: Any = fixed["probe"]
    nets: Any = fixed["nets"]
    return ", ".join([*words, f"probe {probe['kind']}", f"B {probe['batch']}", f"{nets} net{'s' * (nets > 1)} a point"])


def _points_table(sweep: Sweep, name: str) -> RenderableType:
    table_ = titled_table("Points")
    lag = f"at lag {sweep.points[0].lag}" if len({point.lag for point in sweep.points}) == 1 else "at lag T"
    headings = (
        KINDS[name].heading,
        "rate\nnats/step",
        "range\nover nets",
        "theory",
        f"log10 gain\n{lag}",
        "satu-\nrated",
    )
    for heading in headings:
        table_.add_column(heading, justify="right", no_wrap=True)
    table_.add_column("verdict", no_wrap=True)
    for point in sweep.points:
        value = point[name]
        table_.add_row(
            short(value) if isinstance(value, float) else str(value),
            *_numbers(point),
            Text(point.verdict, style=VERDICT_STYLES[point.verdict]),
        )
    return table_


def _numbers(point: SweepPoint) -> Iterator[str]:
    if point.rate is None or point.rate_range is None or point.log10_gain is None:
        yield from ("-", "-", _rate(point.theory_rate), "-", "-")
        return
    low, high = point.rate_range
    yield _rate(point.rate)
    yield f"{_rate(low)}..{_rate(high)}"
    yield _rate(point.theory_rate)
    yield signed(point.log10_gain)
    yield "-" if point.saturation is None else percent(point.saturation)


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else short(value)
