"""Names of modules that keep each gate's block in a tensor of its own: ``U_i``, ``U_f``, ``U_c``, ``U_o``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal

from rnndiag.checkpoint.layers.convention import CANONICAL, canonical_letter

if TYPE_CHECKING:
    from collections.abc import Iterable


_WORDS: Final = {
    "in": "i", "input": "i", "forget": "f", "cell": "g", "cand": "g", "candidate": "g", "out": "o", "output": "o",
    "reset": "r", "update": "z", "new": "n", "hidden": "n",
}  # fmt: skip
"""Names of gates, by the letters that PyTorch's documentation has for them."""


def gate_of(name: str, kind: Literal["gru", "lstm"]) -> str | None:
    """PyTorch's letter for the gate that a part of a name tells; None where it tells none of that cell."""
    lower = name.lower()
    letter = canonical_letter(kind, _WORDS.get(lower, lower))
    return letter if len(letter) == 1 and letter in CANONICAL[kind] else None


def gate_sets(places: Iterable[tuple[str, str]]) -> dict[str, tuple[Literal["gru", "lstm"], dict[str, str]]]:
    """Where the ends of names are the gates of a cell: by what the names begin with, the cell and each gate's end.

    Args:
        places: what the names of one block begin with, and what they end in.
    """
    tails: defaultdict[str, list[str]] = defaultdict(list)
    for stem, tail in places:
        tails[stem].append(tail)
    found: dict[str, tuple[Literal["gru", "lstm"], dict[str, str]]] = {}
    kinds: tuple[Literal["gru", "lstm"], ...] = ("lstm", "gru")
    for stem, each in tails.items():
        for kind in kinds:
            gates = [(gate, tail) for tail in each if (gate := gate_of(tail.strip("_"), kind))]
            if len(gates) == len(CANONICAL[kind]) == len(dict(gates)):
                found[stem] = kind, dict(gates)
    return found
