"""Find the modules of each known spelling among the tensors of a container, and rename their tensors."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.hints import MAX_TENSORS
from rnndiag.checkpoint.layers.spellings import SPELLINGS
from rnndiag.checkpoint.layers.spellings.base import MAX_COMPONENTS
from rnndiag.errors import UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnndiag.checkpoint.layers.renamed import Renamed
    from rnndiag.checkpoint.layers.spellings.base import Spelling

LAST = chr(0x10FFFF)
"""Sorts after every character of a name."""


def take_spellings(container: Renamed) -> None:
    """Rename the tensors of modules that a spelling reads; what does not fit goes to ``misfits``."""
    if len(container.tensors) > MAX_TENSORS:
        return
    ordered = sorted(container.tensors)
    for spelling in SPELLINGS:
        for path in _paths(spelling, container.tensors):
            prefix = f"{path}." if path else ""
            names = ordered[bisect_left(ordered, prefix) : bisect_left(ordered, prefix + LAST) if prefix else None]
            inside = {name[len(prefix) :]: container.tensors[name] for name in names if name in container.tensors}
            try:
                read = spelling.read(inside)
                for reading in read if isinstance(read, list) else [read] if read else []:
                    container.take_reading(reading, path)
            except UnfitError as error:
                container.misfits.append((path, f"recurrent, but {error}"))
                container.drop([prefix + name for name in inside if spelling.names.fullmatch(name)])


def _paths(spelling: Spelling, names: Iterable[str]) -> list[str]:
    """The modules that have the anchor of a spelling, in the order of the file."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for count in range(1, min(MAX_COMPONENTS, len(parts)) + 1):
            if spelling.anchor.fullmatch(".".join(parts[-count:])):
                found[".".join(parts[:-count])] = None
    return list(found)
