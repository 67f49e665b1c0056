"""What may vary: the values of each axis from its text, and the grid that they make."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

from rnndiag.errors import SettingsError
from rnndiag.random_nets import CellName, InitName

Value = float | int | str

MOST_VALUES = 10_000
"""of one axis: a slip of the finger is told before it fills the memory"""

MOST_AXES = 2

_RANGE = re.compile(r"(?P<start>[^:]+):(?P<stop>[^:]+):(?P<count>\d+)(?P<log>log)?")


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that may vary: the option that says so, and what its values are."""

    option: str
    heading: str
    parse: Callable[[str], Value]
    expected: str
    numeric: bool = True


def _choice(*known: str) -> Callable[[str], Value]:
    def parse(text: str) -> Value:
        if text not in known:
            raise ValueError
        return text

    return parse


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


_CELLS, _INITS = get_args(CellName), get_args(InitName)

_NUMBERS = "a number, a list 0,0.1,1 or a range 0.5:3:26 (0.01:10:9log)"
_COUNTS = "a whole number, a list 32,64,128 or a range 16:128:8 (16:1024:7log)"

KINDS: dict[str, Kind] = {
    "sigma": Kind("--sigma", "sigma", _number, _NUMBERS),
    "input_scale": Kind("--input-scale", "input scale", _number, _NUMBERS),
    "bias_scale": Kind("--bias-scale", "bias scale", _number, _NUMBERS),
    "hidden": Kind("--hidden", "H", int, _COUNTS),
    "length": Kind("--T", "T", int, _COUNTS),
    "cell": Kind("--cell", "cell", _choice(*_CELLS), f"one or more of {', '.join(_CELLS)}", numeric=False),
    "init": Kind("--init", "init", _choice(*_INITS), f"one or more of {', '.join(_INITS)}", numeric=False),
}
"""By the name in the JSON, which is the field of ``RandomNet`` (``length``: of the probe)."""

Axes = Mapping[str, tuple[Value, ...]]
"""The values of each axis by name: one, or more where it varies."""

Condition = tuple[tuple[str, Value], ...]
"""One point: the value of each axis, in the order of the axes."""


DEFAULT_SIGMA = "0.5:3:26"
"""Where nothing else varies."""

_ONE_VALUE: dict[str, Value] = {"input_scale": 1.0, "hidden": 128, "cell": "tanh", "init": "gaussian"}


def parse_axes(given: Mapping[str, str | Value | Sequence[Value]]) -> Axes:
    """Every axis but perhaps the length, from those given: as text, a value, or several.

    Sigma and the bias scale are axes only where they have a meaning: given, or sigma by default for the gaussian init.

    Raises:
        SettingsError: for an axis that is not known or does not parse, and where more than two vary.
    """
    unknown = next((name for name in given if name not in KINDS), None)
    if unknown is not None:
        raise SettingsError(f"axes: expected some of {', '.join(KINDS)}, got {unknown!r}")
    axes: dict[str, tuple[Value, ...]] = {name: (one,) for name, one in _ONE_VALUE.items()}
    axes |= {name: parse_axis(name, _text(value)) for name, value in given.items()}
    if "sigma" not in axes and axes["init"] == ("gaussian",):
        axes["sigma"] = (1.0,) if varying(axes) else parse_axis("sigma", DEFAULT_SIGMA)
    varying(axes)
    return axes


def longest(axes: Axes) -> int | None:
    """The greatest length among the axes, which the probe must have; None: it has a length of its own."""
    return max((int(steps) for steps in axes["length"]), default=None) if "length" in axes else None


def with_length(axes: Axes, length: int) -> Axes:
    """The axes in the order of ``KINDS``, with the probe's own length where none was given."""
    complete = {"length": (length,), **axes}
    return {name: complete[name] for name in KINDS if name in complete}


def _text(value: str | Value | Sequence[Value]) -> str:
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def parse_axis(name: str, text: str) -> tuple[Value, ...]:
    """``1.2``, ``0.5:3:26`` (26 values, both ends among them), ``0.01:10:9log``, ``0,0.1,1`` or ``tanh,gru``.

    Raises:
        SettingsError: for what is none of these, a range of words, or a value given twice.
    """
    kind = KINDS[name]
    found = _RANGE.fullmatch(text)
    values = _spread(kind, text, found) if found else tuple(_value(kind, part, text) for part in text.split(","))
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise SettingsError(f"{kind.option} {text}: expected values that differ, got {twice} twice")
    return values


def varying(axes: Axes) -> list[str]:
    """The names of the axes that have more than one value.

    Raises:
        SettingsError: where there are more than a map can show.
    """
    names = [name for name, values in axes.items() if len(values) > 1]
    if len(names) > MOST_AXES:
        given = ", ".join(KINDS[name].option for name in names)
        raise SettingsError(f"expected at most {MOST_AXES} axes that vary, got {given}; fix one of them to one value")
    return names


def conditions(axes: Axes) -> Iterator[Condition]:
    """All points, the last axis fastest."""
    for values in product(*axes.values()):
        yield tuple(zip(axes, values, strict=True))


def _value(kind: Kind, part: str, text: str) -> Value:
    try:
        return kind.parse(part.strip())
    except ValueError:
        what = kind.option if part == text else f"{kind.option} {text!r}"
        raise SettingsError(f"{what}: expected {kind.expected}, got {part!r}") from None


def _spread(kind: Kind, text: str, found: re.Match[str]) -> tuple[Value, ...]:
    if not kind.numeric:
        raise SettingsError(f"{kind.option} {text!r}: expected {kind.expected}, got a range")
    start, stop = (float(_value(kind, found[end], text)) for end in ("start", "stop"))
    count, log = int(found["count"]), found["log"] is not None
    if not 2 <= count <= MOST_VALUES:
        raise SettingsError(f"{kind.option} {text}: expected from 2 to {MOST_VALUES} values, got {count}")
    if start >= stop:
        raise SettingsError(f"{kind.option} {text}: expected a range that rises, got {start:g} to {stop:g}")
    if log and start <= 0:
        raise SettingsError(f"{kind.option} {text}: expected a logarithmic range above 0, got {start:g}")
    ends = (math.log(start), math.log(stop)) if log else (start, stop)
    inner = (ends[0] + (ends[1] - ends[0]) * i / (count - 1) for i in range(1, count - 1))
    spread = [start, *((math.exp(value) if log else value) for value in inner), stop]
    if kind.parse is int:
        return tuple(dict.fromkeys(round(value) for value in spread))
    return tuple(float(f"{value:.12g}") for value in spread)  # 0.6, not 0.6000000000000001
