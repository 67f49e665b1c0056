"""Modules that keep each gate's block in a tensor of its own: ``U_i``, ``U_f``, ``U_c``, ``U_o``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

import torch

from rnndiag.checkpoint.contents import Leaf, StoredTensor, Unusable, value_of
from rnndiag.checkpoint.layers.convention import CANONICAL, AmbiguousError, canonical_letter
from rnndiag.checkpoint.layers.shapes import UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from rnndiag.checkpoint.layers.convention import Convention, Layout
    from rnndiag.checkpoint.layers.renamed import Renamed

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


def join(
    container: Renamed, names: Mapping[str, Sequence[str]], known: Convention
) -> tuple[dict[str, str], Convention]:
    """Put the blocks of each role together; the names of the whole ones by role, and the layout that was found.

    The blocks leave the container, and the whole tensors enter it under the names of all their blocks.

    Args:
        container: holds the blocks.
        names: by role, those of the blocks in the order of ``known``.
        known: of the module; where it has no layout, the input weight's shape tells it.

    Raises:
        UnfitError: a block is missing, or blocks of one role have different shapes.
        AmbiguousError: the shapes do not tell the layout.
    """
    gates = len(known.order or "")
    if missing := [role for role, each in names.items() if len(each) != gates]:
        raise UnfitError(f"{missing[0]}: expected a tensor for each of the gates {known.order}")
    blocks = {role: [container.tensors[name] for name in each] for role, each in names.items()}
    shapes = {role: _shape(role, each) for role, each in blocks.items()}
    layout = known.layout or _layout(shapes["hh"], shapes["ih"])
    joined: dict[str, str] = {}
    for role, each in names.items():
        axis = 1 if layout == "columns" and len(shapes[role]) == 2 else 0
        joined[role] = "+".join(each)
        container.drop({name: name for name in each})
        container.tensors[joined[role]] = _whole(blocks[role], shapes[role], axis)
    return joined, replace(known, layout=layout)


def _shape(role: str, blocks: Sequence[Leaf]) -> tuple[int, ...]:
    for leaf in blocks:
        if isinstance(leaf, Unusable):
            raise UnfitError(f"{role}: {leaf.reason}")
    shapes = {tuple(leaf.shape) for leaf in blocks if not isinstance(leaf, Unusable)}
    if len(shapes) > 1:
        raise UnfitError(f"{role}: its gates have different shapes")
    (shape,) = shapes
    if role not in ("hh", "ih"):
        return (torch.Size(shape).numel(),)
    if len(shape) != 2:
        raise UnfitError(f"{role}: expected a matrix for each gate")
    return shape


def _layout(recurrent: tuple[int, ...], feeding: tuple[int, ...]) -> Layout:
    units = recurrent[0]
    if feeding[0] == feeding[1] == units:
        raise AmbiguousError("its square gate blocks may be used as W h or as h W")
    return "columns" if feeding[1] == units else "rows"


def _whole(blocks: Sequence[Leaf], shape: tuple[int, ...], axis: int) -> Leaf:
    usable = [leaf for leaf in blocks if not isinstance(leaf, Unusable)]  # all of them: _shape() has looked
    size = list(shape)
    size[axis] *= len(usable)

    def read() -> Tensor | Unusable:
        pieces = []
        for leaf in usable:
            value = value_of(leaf)
            if isinstance(value, Unusable):
                return value
            pieces.append(value.reshape(shape))
        return torch.cat(pieces, dim=axis)

    return StoredTensor(tuple(size), usable[0].dtype, read)
