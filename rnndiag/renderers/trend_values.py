"""The values of a run of checkpoints for people, shared by its table and its Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.trend.data import Change, Place, Trend
from rnndiag.trend.quantities import quantity

WRITTEN: dict[str, Callable[[float], str]] = {
    "short": short,
    "signed": signed,
    "percent": percent,
    "count": lambda value: f"{value:.0f}",
}

NOT_A_NUMBER = "NaN"


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
