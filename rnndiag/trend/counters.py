"""One step for each file from the counters that all files have; a counter may restart with each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

EPOCH: Final = "epoch"
COUNTED: Final = "checkpoint"
"""The axis of files that are counted: their order is known, but not the distance between them."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A step for each file."""

    axis: str
    """the counter; ``checkpoint`` where no counter is a place along all of training"""
    steps: list[float]
    reason: str
    """which counter was taken, and why"""


def along(counters: Mapping[str, Sequence[float]]) -> Steps:
    """The step of each file.

    The step is the counter with the most different values, because a counter that never changes was not updated. On a
    tie, it is the finest counter. A counter that falls while the epoch rises counts within epochs, if every file has
    its own epoch or if the counter repeats its values. The files are then in the order of the epoch and, within an
    epoch, of the counter.

    Args:
        counters: by name, the finest first, each with a value for every file.
    """
    best = max(counters, key=lambda name: len(set(counters[name])))
    alone = Steps(best, list(counters[best]), best)
    epoch = counters.get(EPOCH)
    if epoch is None:
        return alone
    for fine in (name for name in counters if name != EPOCH and best in (name, EPOCH)):
        places = list(zip(epoch, counters[fine], strict=True))
        falls = any(two[1] < one[1] for one, two in pairwise(sorted(set(places))))
        if not falls:
            continue
        if len(set(epoch)) == len(set(places)):
            return Steps(EPOCH, list(epoch), f"{EPOCH}, as {fine} falls while it rises")
        if len(set(counters[fine])) < len(set(places)):
            return Steps(COUNTED, ranks(places), f"{EPOCH} and, within it, {fine}, which begins anew")
        if best == fine:
            return Steps(fine, alone.steps, f"{fine}, though {EPOCH} falls meanwhile")
    return alone


def ranks(keys: Sequence[Any]) -> list[float]:
    """The rank of each key, from 1; equal keys have the same rank."""
    place = {key: float(index) for index, key in enumerate(sorted(set(keys)), 1)}
    return [place[key] for key in keys]
