"""A run of checkpoints as JSON, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rnndiag.printable import csv_line, escaped_strings, json_text
from rnndiag.renderers.markdown import code, findings_blocks, prose, row
from rnndiag.renderers.sparkline import LETTERS, sparkline
from rnndiag.renderers.trend import change_line, course, places, shown, step, summary
from rnndiag.report import finite
from rnndiag.trend.data import Place, Trend
from rnndiag.trend.quantities import quantity

FORMATS = ("json", "csv", "markdown")
SPARK = 40
"""Characters of a sparkline in Markdown."""


def render(trend: Trend, format_: str) -> str:
    """The run in one of the ``FORMATS``."""
    return {"json": as_json, "csv": as_csv, "markdown": as_markdown}[format_](trend)


def as_json(trend: Trend) -> str:
    """All fields; numbers that are not finite are strings, as in a report."""
    return json_text(finite(msgspec.to_builtins(trend))) + "\n"


def as_csv(trend: Trend) -> str:
    """One row per stack and layer at each checkpoint, and one column per measure.

    A cell is ``nan`` if numbers are not finite and there is no measure, and empty if the measure does not apply.
    """
    every = [(point, place) for point in trend.points for place in (*point.stacks, *point.layers)]
    names = list(dict.fromkeys(name for _, place in every for name in place.measures))
    known = {(place.name, name) for _, place in every for name, value in place.measures.items() if value is not None}
    lines = [csv_line(["path", "step", "where", "kind", "verdict", *names, "not_finite"])]
    for point, place in every:
        values = [_cell(place, name, applies=(place.name, name) in known) for name in names]
        cells = [point.path, finite(point.step), place.name, place.kind, place.verdict, *values, place.not_finite]
        lines.append(csv_line(cells))
    return "".join(lines)


def _cell(place: Place, name: str, *, applies: bool) -> object:
    value = place.measures.get(name)
    return "nan" if value is None and place.verdict == "invalid" and applies else finite(value)


def as_markdown(trend: Trend) -> str:
    """A section with the verdicts, a table of the measures, the changes and the findings."""
    return "\n".join(f"{line}\n" for line in _blocks(escaped_strings(trend)))


def _blocks(trend: Trend) -> Iterator[str]:
    points, order = trend.points, trend.order
    yield f"## {len(points)} checkpoints: {points[0].verdict} at first, {points[-1].verdict} at last"
    span = f"{prose(order.axis)} {step(points[0].step)} to {step(points[-1].step)}"
    yield f"From {code(points[0].path)} to {code(points[-1].path)}, {span}: {prose(order.reason)}."
    met = [verdict for verdict in LETTERS if any(point.verdict == verdict for point in points)]
    legend = ", ".join(f"{prose(LETTERS[each])} {each}" for each in met)
    yield f"Verdicts: {code(''.join(LETTERS[point.verdict] for point in points))} ({legend})"
    yield "\n".join(_table(trend))
    if trend.notes:
        yield "\n".join(f"- Note: {prose(note)}" for note in trend.notes)
    if trend.changes:
        yield "### Changes of verdict"
        yield "\n".join(
            f"- {code(change.where)}: {change.before} to {change.after} {prose(change_line(trend, change))}"
            for change in trend.changes
        )
    yield from findings_blocks(trend)


def _table(trend: Trend) -> Iterator[str]:
    yield row(["where", "measure", "first", "over training", "last"])
    yield row(["---", "---", "---:", "---", "---:"])
    for name, along in places(trend):
        for each in shown(along):
            values = course(trend, along, each)
            ends = summary(trend, each, values)
            cells = (prose(ends.first), sparkline(values, SPARK), prose(ends.last))
            yield row([code(name), prose(quantity(each).label), *cells])
