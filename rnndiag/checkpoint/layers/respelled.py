"""Find the modules of each known spelling among the tensors of a container, and rename their tensors."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.hints import MAX_TENSORS
from rnndiag.checkpoint.layers.spellings import SPELLINGS
from rnndiag.checkpoint.layers.spellings.base import MAX_COMPONENTS
from rnndiag.errors import UnfitError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from rnndiag.checkpoint.layers.renamed import Renamed
    from rnndiag.checkpoint.layers.spellings.base import Spelling

LAST = chr(0x10FFFF)
"""Sorts after every character of a name."""


def take_spellings(container: Renamed) -> None:
    """Rename the tensors of modules that a spelling reads; what does not fit goes to ``misfits``."""
    if len(container.tensors) > MAX_TENSORS:
        return
    ordered, ends = sorted(container.tensors), _ends(container.tensors)
    for spelling in SPELLINGS:
        for path in _paths(spelling, ends, container.tensors):
            if container.scopes.get(path, path) is None:
                continue  # the user or the parser has said what the layer is
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


Ends = dict[str, list[tuple[int, str]]]
"""The last components of names, each with the names that end so and their places in the file."""


def _ends(names: Iterable[str]) -> Ends:
    """The ends of all names. Names of a large model have few different ends, so that few are matched."""
    found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for place, name in enumerate(names):
        parts = name.split(".")
        for count in range(1, min(MAX_COMPONENTS, len(parts)) + 1):
            found[".".join(parts[-count:])].append((place, name))
    return found


def _paths(spelling: Spelling, ends: Ends, names: Container[str]) -> list[str]:
    """The modules that have the anchor of a spelling, in the order of the file."""
    found = [(*each, end) for end, held in ends.items() if spelling.anchor.fullmatch(end) for each in held]
    present = ((name, end) for _, name, end in sorted(found) if name in names)
    return list(dict.fromkeys(name.removesuffix(end).removesuffix(".") for name, end in present))
