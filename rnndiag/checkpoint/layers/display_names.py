"""Names for what was found: the module's own path, and no more of the file's than tells them apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WRAPPERS: Final = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module"})
"""Path components that DataParallel, torch.compile and FSDP put around a module."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module was found."""

    container: tuple[str, ...]
    """The keys that lead to its container."""
    module: str
    """Its dotted path in the container; empty for the container itself."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The components of its path in the container."""
        return tuple(self.module.split(".")) if self.module else ()


def prefixes(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What distinguishes each of several paths in the file: the rest after their common start and end.

    ``(ckpt, generator, weights)`` and ``(ckpt, critic, weights)`` give ``(generator,)`` and ``(critic,)``;
    a path on its own gives ``()``.
    """
    distinct = list(dict.fromkeys(paths))
    start = _shared(distinct)
    rests = [path[start:] for path in distinct]
    end = _shared([rest[::-1] for rest in rests])
    return {path: rest[: len(rest) - end] for path, rest in zip(distinct, rests, strict=True)}


def name_modules(places: Sequence[Place]) -> list[str]:
    """A name for each module, all different; empty for one that has no path at all.

    Wrappers are left out where no two modules come to share a name by that.
    """
    heads = prefixes(place.container for place in places)
    whole = [(*heads[place.container], *place.parts) for place in places]
    bare = [(*heads[place.container], *unwrapped(place.parts)) for place in places]
    uses = Counter(bare)
    paths = [short if uses[short] == 1 else full for short, full in zip(bare, whole, strict=True)]
    return _distinct([shown(path) or shown(place.container) for path, place in zip(paths, places, strict=True)])


def shown(path: Iterable[str]) -> str:
    """The path as a dotted name that is fit to print."""
    return printable(".".join(path))


def unwrapped(parts: Iterable[str]) -> tuple[str, ...]:
    """The path without what wraps modules."""
    return tuple(part for part in parts if part not in WRAPPERS)


def _shared(paths: Sequence[tuple[str, ...]]) -> int:
    """How many leading components all paths have in common; for one path, all of them."""
    columns = zip(*paths, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with ``#2``, ``#3`` after those that repeat."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return result
