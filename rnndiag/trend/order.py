"""Training order: by the step that the files hold, the number in their names, or the time they were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from rnndiag.checkpoint.unpickling.training_step import KEYS
from rnndiag.errors import SettingsError
from rnndiag.report import Report
from rnndiag.trend.counters import COUNTED, along, ranks
from rnndiag.trend.names import natural, numbered, telling, worded

OrderBy = Literal["step", "name", "time", "given"]

_IN_NAME = "number in the name"
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
        SettingsError: if some file does not have what the wanted order needs.
    """
    if wanted == "given":
        counted = [float(index) for index in range(1, len(reports) + 1)]
        return Order("given", COUNTED, "in the order given"), list(zip(counted, reports, strict=True))
    refusals: list[str] = []
    for by in ("step", "name", "time") if wanted == "auto" else (wanted,):
        found = {"step": _by_step, "name": _by_name, "time": _by_time}[by](reports, forced=wanted != "auto")
        if not isinstance(found, str):
            order, steps = found
            why = "; ".join([order.reason, *refusals])
            placed = sorted(zip(steps, reports, strict=True), key=lambda each: (each[0], natural(each[1].source.path)))
            return Order(order.by, order.axis, why), placed
        refusals.append(f"not by {by}: {found}")
    where = "--order auto" if wanted == "auto" else f"--order {wanted}"
    raise SettingsError(f"{where}: the order of training cannot be told, {'; '.join(refusals)}; try another --order")


_Found = tuple[Order, list[float]]


def _by_step(reports: Sequence[Report], *, forced: bool) -> _Found | str:
    del forced
    counters = [report.source.progress for report in reports]
    shared = [key for key in KEYS if all(key in each for each in counters)]
    if not shared:
        without = [report.source.path for report in reports if not report.source.progress]
        return f"{_some(without, reports)} no step" if without else "the files hold no counter in common"
    if all(len({each[key] for each in counters}) == 1 for key in shared):
        return f"{shared[0]} is {counters[0][shared[0]]} in all of them"
    found = along({key: [float(each[key]) for each in counters] for key in shared})
    reason = f"by {found.reason}" + (", which every file holds" if found.reason == found.axis else "")
    return Order("step", found.axis, reason), found.steps


def _by_name(reports: Sequence[Report], *, forced: bool) -> _Found | str:
    paths = [report.source.path for report in reports]
    found = _numbers(paths)
    if isinstance(found, str) and forced:
        return Order("name", COUNTED, "by name"), ranks([natural(path) for path in paths])
    return found


def _numbers(paths: Sequence[str]) -> _Found | str:
    names = telling([PurePath(path) for path in paths])
    words = worded(names)
    if words:
        whole = {word: known for word, values in words.items() if len(known := _known(values)) == len(values)}
        if not whole:
            word, values = next(iter(words.items()))
            return f"{_some(_without(paths, values), paths)} no {word} in the name"
        found = along(whole)
        if all(len(set(values)) == 1 for values in whole.values()):
            return "all names hold the same number"
        if found.axis == COUNTED:
            return Order("name", COUNTED, f"by {found.reason}, in the name"), found.steps
        more = f": {found.reason}" if found.reason != found.axis else ""
        return Order("name", _IN_NAME, f"by the number in the name{more}"), found.steps
    varying = numbered(names)
    if varying is None:
        return "the names are not alike, and hold several numbers without a word such as step or epoch"
    last = [values[-1] if values else None for values in varying]
    if None in last:
        return f"{_some(_without(paths, last), paths)} no number in the name"
    if len(set(last)) == 1:
        return "all names hold the same number"
    if len(varying[0]) > 1:
        why = (
            "by name, as a reader would sort them: several numbers vary, and no word such as step or epoch says which "
        )
        return Order("name", COUNTED, f"{why}counts"), ranks([natural(path) for path in paths])
    return Order("name", _IN_NAME, "by the number in the name"), _known(last)


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
    paths = [natural(report.source.path) for report in reports]
    return Order("time", COUNTED, "by the time of modification"), ranks(list(zip(times, paths, strict=True)))


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _without(paths: Sequence[str], values: Sequence[float | None]) -> list[str]:
    return [path for path, value in zip(paths, values, strict=True) if value is None]


def _some(paths: Sequence[str], all_: Sequence[object]) -> str:
    if len(paths) == len(all_):
        return "the files hold"
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return f"{', '.join(paths[:_LISTED])}{more} hold{'s' if len(paths) == 1 else ''}"
