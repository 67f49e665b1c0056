"""A run of checkpoints for a terminal of 80 columns or more."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rnndiag.printable import escaped_strings
from rnndiag.renderers.findings import findings_section
from rnndiag.renderers.run_curve import RunCurve
from rnndiag.renderers.sparkline import LETTERS, Strip
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.renderers.tables import titled_table
from rnndiag.renderers.trend_values import NOT_A_NUMBER, change_line, course, places, shown, step, summary
from rnndiag.trend.data import Trend
from rnndiag.trend.quantities import quantity

MOST_CHANGES = 8
WIDEST_NAME = 26


def render(trend: Trend) -> RenderableType:
    """The run, its verdicts, each measure from first to last, the changes and what the rules say."""
    return Group(*_sections(escaped_strings(trend)))


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
