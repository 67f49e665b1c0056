"""A sweep for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from rnndiag.renderers.heatmap import HeatMap, critical_words
from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.renderers.rate_curve import RateCurve
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.renderers.tables import titled_table
from rnndiag.sweep.axes import KINDS, varying
from rnndiag.sweep.result import Sweep, SweepPoint

CURVE_FROM = 4
"""values of a number from which on a curve says more than a table alone"""


def render(sweep: Sweep) -> RenderableType:
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
    shared = {name: values[0] for name, values in sweep.axes.items() if name not in names}
    words = [str(shared.pop(name)) for name in ("cell", "init") if name in shared]
    words += [f"{KINDS[name].heading} {short(v) if isinstance(v, float) else v}" for name, v in shared.items() if v]
    probe: Any = fixed["probe"]
    nets: Any = fixed["nets"]
    return ", ".join([*words, f"probe {probe['kind']}", f"B {probe['batch']}", f"{nets} net{'s' * (nets > 1)} a point"])


def _points_table(sweep: Sweep, name: str) -> RenderableType:
    table = titled_table("Points")
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
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for point in sweep.points:
        value = point[name]
        table.add_row(
            short(value) if isinstance(value, float) else str(value),
            *_numbers(point),
            Text(point.verdict, style=VERDICT_STYLES[point.verdict]),
        )
    return table


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
