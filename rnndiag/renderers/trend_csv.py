"""A run of checkpoints as CSV."""

from __future__ import annotations

from rnndiag.printable import csv_line
from rnndiag.report import finite
from rnndiag.trend.data import Place, Trend


def render(trend: Trend) -> str:
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
