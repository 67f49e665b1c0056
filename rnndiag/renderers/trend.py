"""A run of checkpoints for a terminal of 80 columns or more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rnndiag.printable import escaped_strings
from rnndiag.renderers.findings import findings_section
from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.renderers.run_curve import RunCurve
from rnndiag.renderers.sparkline import LETTERS, Strip
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.renderers.tables import titled_table
from rnndiag.trend.data import Change, Place, Trend
from rnndiag.trend.quantities import quantity

WRITTEN: dict[str, Callable[[float], str]] = {
    "short": short,
    "signed": signed,
    "percent": percent,
    "count": lambda value: f"{value:.0f}",
}

NOT_A_NUMBER = "NaN"

MOST_CHANGES = 8
WIDEST_NAME = 26


def render(trend: Trend) -> RenderableType:
    """The run, its verdicts, each measure from first to last, the changes and what the rules say."""
    return Group(*_sections(escaped_strings(trend)))


def course(trend: Trend, along: Sequence[Place | None], name: str) -> list[float | None]:
    """A quantity at each point: NaN where the stack or layer is not finite, and None where the quantity is missing.

    A horizon that lies beyond the probe is drawn one step beyond it.
    """
    return [None if place is None else _value(place, name, trend.probe.length) for place in along]


def _value(place: Place, name: str, length: int) -> float | None:
    value = place.measures.get(name)
    if value is not None:
        return value
    if place.verdict == "invalid":
        return math.nan
    beyond = name == "horizon" and place.measures.get("log10_gain") is not None
    return float(length + 1) if beyond else None


def summary(trend: Trend, name: str, values: Sequence[float | None]) -> Summary:
    """The first and last value for people, and the range of the values that are numbers."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    ends = (values[0], values[-1], min(known), max(known))
    return Summary(*(written(trend, name, value) for value in ends))


class Summary(NamedTuple):
    """A quantity along a run, in words."""

    first: str
    last: str
    lowest: str
    highest: str


def written(trend: Trend, name: str, value: float | None) -> str:
    """A value of a quantity for people."""
    if value is None:
        return "-"
    if math.isnan(value):
        return NOT_A_NUMBER
    if name == "horizon" and value > trend.probe.length:
        return f">{trend.probe.length}"
    return WRITTEN[quantity(name).style](value)


def step(number: float) -> str:
    """A step for people: whole, where it is."""
    return f"{number:.0f}" if float(number).is_integer() else short(number, 4)


def change_line(trend: Trend, change: Change) -> str:
    """Between which steps a verdict changed, and whether a rule had warned of it."""
    line = f"between {trend.order.axis} {step(change.last_step)} and {step(change.first_step)}"
    if change.warned is not None and change.warned_step is not None:
        ahead = change.first_step - change.warned_step
        line += f"; {change.warned} warned from {step(change.warned_step)} on, {step(ahead)} before"
    return line


def places(trend: Trend) -> Iterator[tuple[str, list[Place | None]]]:
    """Each stack of several layers, then each layer, along all points (None where it is missing)."""
    several = any(len(point.layers) > len(point.stacks) for point in trend.points)
    for part in ("stacks", "layers") if several else ("layers",):
        for name in dict.fromkeys(place.name for point in trend.points for place in getattr(point, part)):
            found = ({place.name: place for place in getattr(point, part)} for point in trend.points)
            yield name, [each.get(name) for each in found]


def shown(along: Sequence[Place | None]) -> list[str]:
    """The quantities that get a row: those with a number other than zero at some point."""
    names = dict.fromkeys(name for place in along if place for name in place.measures)
    return [name for name in names if quantity(name).shown and any(map(_tells, along, repeat(name)))]


def _tells(place: Place | None, name: str) -> bool:
    value = None if place is None else place.measures.get(name)
    return bool(value) and not math.isnan(value or 0.0)


def _sections(trend: Trend) -> Iterator[RenderableType]:
    yield _header(trend)
    yield _measures(trend)
    curve = RunCurve(trend)
    if curve.curves:
        yield Text("\nGradient's gain over training, at the lag", style="bold")
        yield curve
    yield _changes(trend)
    yield findings_section(trend)


def _header(trend: Trend) -> RenderableType:
    points, probe = trend.points, trend.probe
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("run", Text.assemble(points[0].path, (" to ", "dim"), points[-1].path))
    span = f"{step(points[0].step)} to {step(points[-1].step)}"
    grid.add_row("order", f"{len(points)} checkpoints, {trend.order.axis} {span}: {trend.order.reason}")
    grid.add_row(
        "probe",
        f"{probe.kind}, T={probe.length}, B={probe.batch}, scale {probe.scale:g}, seed {probe.seed}; lag {trend.lag}",
    )
    grid.add_row("verdict", Strip(verdicts=[point.verdict for point in points]))
    met = [verdict for verdict in LETTERS if any(point.verdict == verdict for point in points)]
    grid.add_row("", Text("  ").join(Text(f"{LETTERS[each]} {each}", VERDICT_STYLES[each]) for each in met))
    for note in trend.notes:
        grid.add_row("note", Text(note, style="yellow"))
    return grid


def _measures(trend: Trend) -> RenderableType:
    table = titled_table("Over training")
    table.add_column("measure", overflow="fold", max_width=WIDEST_NAME)
    table.add_column("first", justify="right", no_wrap=True)
    table.add_column("")  # what gives way where there are many checkpoints
    for heading in ("last", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, along in places(trend):
        kind = next(place.kind for place in reversed(along) if place)
        verdicts = Strip(verdicts=[None if place is None else place.verdict for place in along])
        table.add_row(Text.assemble((name, "bold"), (f"\n{kind}", "dim")), "", verdicts)
        for each in shown(along):
            values = course(trend, along, each)
            row = summary(trend, each, values)
            ends = (_colored(row.first), Strip(values), _colored(row.last))
            table.add_row(f"  {quantity(each).label}", *ends, row.lowest, row.highest)
        table.add_section()
    return table


def _colored(value: str) -> Text:
    return Text(value, style=VERDICT_STYLES["invalid"] if value == NOT_A_NUMBER else "")


def _changes(trend: Trend) -> RenderableType:
    if not trend.changes:
        verdict = trend.points[-1].verdict
        return Text.assemble("\nVerdict: ", (verdict, VERDICT_STYLES[verdict]), " at every checkpoint.", style="bold")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", overflow="fold")
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    if len(trend.changes) > MOST_CHANGES:
        earlier = f"{len(trend.changes) - MOST_CHANGES} earlier ones (--format json lists them)"
        grid.add_row("", Text(earlier, style="dim"), "")
    for change in trend.changes[-MOST_CHANGES:]:
        became = Text.assemble(
            (change.before, VERDICT_STYLES[change.before]), " to ", (change.after, VERDICT_STYLES[change.after])
        )
        grid.add_row(change.where, became, change_line(trend, change))
    return Group(Text("\nChanges of verdict", style="bold"), grid)
