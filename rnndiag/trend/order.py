"""Training order: by the step that the files hold, the number in their names, or the time they were written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from rnndiag.checkpoint.progress import KEYS, MOST
from rnndiag.errors import SettingsError
from rnndiag.report import Report

OrderBy = Literal["step", "name", "time", "given"]

_WORD = re.compile(r"(?:global_?step|step|iteration|iter|update|epoch)s?[-_=. ]*(\d+(?:\.\d+)?)([kKM](?![a-zA-Z]))?")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kKM](?![a-zA-Z]))?")
_UNIT = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
_LISTED = 3


@dataclass(frozen=True, slots=True)
class Order:
    """The order that was taken."""

    by: OrderBy
    axis: str
    """what the steps are: the name of the files' counter, ``number in the name``, or ``checkpoint`` for their count"""
    reason: str


def arrange(reports: Sequence[Report], wanted: OrderBy | Literal["auto"]) -> tuple[Order, list[tuple[float, Report]]]:
    """The reports in training order, each with its step.

    Args:
        reports: of the checkpoints of one run, in the order given.
        wanted: ``auto``: by a counter that every file holds, else by a number in every name, else by time.

    Raises:
        SettingsError: where the wanted order cannot be told from every file.
    """
    if wanted == "given":
        return Order("given", "checkpoint", "in the order given"), _counted(reports)
    refusals: list[str] = []
    for by in ("step", "name", "time") if wanted == "auto" else (wanted,):
        found = {"step": _by_step, "name": _by_name, "time": _by_time}[by](reports, forced=wanted != "auto")
        if not isinstance(found, str):
            order, steps = found
            why = "; ".join([order.reason, *refusals])
            placed = sorted(zip(steps, reports, strict=True), key=lambda each: (each[0], _natural(each[1].source.path)))
            if order.axis == "checkpoint":
                placed = _counted([report for _, report in placed])
            return Order(order.by, order.axis, why), placed
        refusals.append(f"not by {by}: {found}")
    where = "--order auto" if wanted == "auto" else f"--order {wanted}"
    raise SettingsError(f"{where}: the order of training cannot be told, {'; '.join(refusals)}; try another --order")


_Found = tuple[Order, list[float]]


def _by_step(reports: Sequence[Report], *, forced: bool) -> _Found | str:
    del forced
    held = [report.source.progress for report in reports]
    shared = [key for key in KEYS if all(key in each for each in held)]
    if not shared:
        without = [report.source.path for report in reports if not report.source.progress]
        return f"{_some(without, reports)} no step" if without else "the files hold no counter in common"
    # The finest that moves: a counter that stands still was not kept.
    key = max(shared, key=lambda name: len({each[name] for each in held}))
    if len({each[key] for each in held}) == 1:
        return f"{key} is {held[0][key]} in all of them"
    return Order("step", key, f"by {key}, which every file holds"), [float(each[key]) for each in held]


def _by_name(reports: Sequence[Report], *, forced: bool) -> _Found | str:
    paths = [PurePath(report.source.path) for report in reports]
    numbers = [_in_name(name) for name in _telling(paths)]
    if None in numbers:
        without = [report.source.path for report, number in zip(reports, numbers, strict=True) if number is None]
        if forced:
            return Order("name", "checkpoint", "by name"), _ranks([_natural(str(path)) for path in paths])
        return f"{_some(without, reports)} no number in the name"
    told = [number for number in numbers if number is not None]
    if len(set(told)) == 1 and not forced:
        return "all names hold the same number"
    return Order("name", "number in the name", "by the number in the name"), told


def _by_time(reports: Sequence[Report], *, forced: bool) -> _Found | str:
    del forced
    times = []
    for report in reports:
        try:
            times.append(float(Path(report.source.path).stat().st_mtime_ns))
        except OSError:
            return f"{report.source.path} has no time of modification"
    if len(set(times)) == 1:
        return "all were written at the same time"
    return Order("time", "checkpoint", "by the time of modification"), times


def _telling(paths: Sequence[PurePath]) -> list[str]:
    """The last part of each path that is not the same in all: a folder's name where the files' are alike."""
    depth = min(len(path.parts) for path in paths)
    for back in range(1, depth + 1):
        names = [path.parts[-back] for path in paths]
        if len(set(names)) > 1:
            return [PurePath(name).stem if back == 1 and PurePath(name).suffix else name for name in names]
    return [path.stem for path in paths]


def _in_name(name: str) -> float | None:
    """The number after a word for steps or epochs, the finer word first; without one, the last number."""
    worded = [(match[0], match) for match in _WORD.finditer(name.lower() if name.isupper() else name)]
    steps = [match for word, match in worded if not word.startswith("epoch")]
    chosen = steps or [match for _, match in worded] or list(_NUMBER.finditer(name))
    number = float(chosen[-1][1]) * _UNIT[chosen[-1][2] or ""] if chosen else math.inf
    return number if number <= MOST else None


def _natural(path: str) -> tuple[tuple[str, float], ...]:
    """A key under which numbers within names sort as numbers."""
    pieces = re.split(r"(\d+)", path)
    words, digits = pieces[::2], [*pieces[1::2], "0"]
    return tuple((word, float(digit)) for word, digit in zip(words, digits, strict=True))


def _ranks(keys: list[tuple[tuple[str, float], ...]]) -> list[float]:
    order = sorted(set(keys))
    return [float(order.index(key)) for key in keys]


def _counted(reports: Sequence[Report]) -> list[tuple[float, Report]]:
    return [(float(index), report) for index, report in enumerate(reports, 1)]


def _some(paths: Sequence[str], reports: Sequence[Report]) -> str:
    if len(paths) == len(reports):
        return "the files hold"
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return f"{', '.join(paths[:_LISTED])}{more} hold{'s' if len(paths) == 1 else ''}"
