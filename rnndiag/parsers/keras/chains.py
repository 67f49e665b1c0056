"""The levels of one stack: Keras layers of which each reads all steps of the layer below it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rnndiag.files.text import listing
from rnndiag.parsers.keras.feeds import UNKNOWN, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.parsers.keras.feeds import Feeds
    from rnndiag.parsers.parsed import Parsed

MAX_SHOWN: Final = 100
"""Characters of a name in a note."""


@dataclass(frozen=True, slots=True)
class Level:
    """A module that a layer became: the whole layer, or one of the cells that feed one another in it."""

    name: str
    input_size: int
    output_size: int
    backwards: bool | None
    """Its direction of time; None for both directions."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A recurrent layer whose lowest module reads what the layer reads."""

    name: str
    """No other layer has it."""
    configured_name: str
    """Its name in the configuration; both halves of a bidirectional layer may have the same."""
    levels: tuple[Level, ...]
    """The lowest first."""
    is_keras_s_own: bool
    """Whether its class is one of Keras's own, of which it is known what they read and output."""
    gives_whole: bool
    """Whether the output of its highest level is that of the layer at all steps, the forward direction first."""

    @property
    def has_both_directions(self) -> bool:
        """Whether it is bidirectional."""
        return self.levels[0].backwards is None


class Chains:
    """Collects layers in the model's order, and finds which are levels of one stack.

    Args:
        feeds: what each layer reads; None: not known.
    """

    def __init__(self, feeds: Feeds | None) -> None:
        self._feeds = feeds
        self._layers: dict[str, Layer] = {}

    def add(self, layer: Layer) -> None:
        """A layer whose modules were all handed over."""
        self._layers.setdefault(layer.name, layer)

    def write(self, parsed: Parsed) -> None:
        """Put the chains into ``parsed``, each module's direction within its stack, and what is to be noted."""
        below = self._below()
        chain_of: dict[str, list[str]] = {}
        is_reversed: dict[str, bool] = {}
        """Whether the output runs from the end of the stack's input to its start, as that of ``go_backwards`` does."""
        driven: list[str] = []
        for name, layer in self._layers.items():
            lower = below.get(name)
            if lower is not None and is_reversed[lower] and layer.has_both_directions:
                lower = None  # its own forward direction would come second
            chain = chain_of[name] = chain_of[lower] if lower is not None else []
            chain += [level.name for level in layer.levels]
            turns = lower is not None and is_reversed[lower]
            for level in layer.levels if turns else ():
                known = parsed.conventions[level.name]
                parsed.conventions[level.name] = replace(known, backwards=not known.backwards)
            is_reversed[name] = turns ^ bool(layer.levels[0].backwards)
            if lower is None:
                parsed.chains.append(chain)
                driven += self._fed_otherwise(layer)
        parsed.chains[:] = [chain for chain in parsed.chains if len(chain) > 1]
        self._note(parsed, driven)

    def _below(self) -> dict[str, str]:
        """By layer, the layer below it, if the two can be levels of one stack."""
        found: dict[str, str] = {}
        seen: set[str] = set()
        for name, layer in self._layers.items():
            sources = (self._feeds or {}).get(layer.configured_name, [UNKNOWN])
            lower = self._layers.get(sources[0].name) if len(sources) == 1 and not sources[0].index else None
            if (
                lower is not None
                and lower.name in seen
                and lower.gives_whole
                and layer.is_keras_s_own
                and lower.levels[-1].output_size == layer.levels[0].input_size
            ):
                found[name] = lower.name
            seen.add(name)
        readers = Counter(found.values())
        return {name: lower for name, lower in found.items() if readers[lower] == 1}

    def _fed_otherwise(self, layer: Layer) -> list[str]:
        """The layer, and what it reads in the model, if that is neither the model's input nor rows of a table."""
        if self._feeds is None:
            return [_shown(layer.levels[0].name)]
        sources = self._feeds.get(layer.configured_name, [UNKNOWN])
        return [
            f"{_shown(layer.levels[0].name)} (reads {_described(source)})"
            for source in sources[:1]
            if not all(each.is_input for each in sources)
        ]

    def _note(self, parsed: Parsed, driven: Sequence[str]) -> None:
        if self._feeds is None and len(driven) > 1:
            parsed.notes.append(
                f"no configuration tells which layer reads which: the probe drives {listing(driven)} directly"
            )
        elif self._feeds is not None and driven:
            parsed.notes.append(
                "the probe drives these layers directly, because what they read in the model is not computed:"
                f" {listing(driven)}"
            )


def _described(source: Source) -> str:
    if source.is_input or source == UNKNOWN:
        return source.what or "several values"
    return f"{_shown(source.name)}, {_shown(source.what)}"


def _shown(name: str) -> str:
    return name if len(name) <= MAX_SHOWN else f"{name[: MAX_SHOWN - 1]}…"
