"""A run of checkpoints as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rnndiag.printable import escaped_strings
from rnndiag.renderers.markdown import code, findings_blocks, prose, row
from rnndiag.renderers.sparkline import LETTERS, sparkline
from rnndiag.renderers.trend_values import change_line, course, places, shown, step, summary
from rnndiag.trend.data import Trend
from rnndiag.trend.quantities import quantity

SPARK = 40
"""Characters of a sparkline."""


def render(trend: Trend) -> str:
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
