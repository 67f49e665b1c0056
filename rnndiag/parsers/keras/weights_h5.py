"""The older layout of weights: a group a layer, and in its attribute ``weight_names`` the weights in order.

``model_weights/lstm_1`` with ``lstm_1/lstm_cell/kernel:0`` and so on (keras/src/legacy/saving/legacy_h5_format.py).
Keras itself matches them with the layers of a model by their order alone, and so does this.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from rnndiag.parsers import hdf5
from rnndiag.parsers.keras.layers import Cell, Other, Part, Recurrent, Table, Track, dotted
from rnndiag.parsers.parsed import RefusedError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

MAX_WEIGHTS: Final = 50_000
"""Names of weights in one file."""
MAX_PIECES: Final = 100
"""In which a list of names is cut, of some 60,000 bytes each."""

_Weighted = TypeVar("_Weighted", Recurrent, Table)
_CELL: Final = ("kernel", "recurrent_kernel", "bias")
_TABLE: Final = "embeddings"
_AGAIN: Final = re.compile("(kernel|recurrent_kernel|bias|embeddings)_([0-9]{1,4})")
"""A name that was taken in its scope, as TensorFlow 1 makes it unique."""


class LegacyWeights:
    """The weights of a file in this layout.

    Args:
        root: the group that has the attribute ``layer_names``.
    """

    def __init__(self, root: hdf5.Group) -> None:
        self._root = root
        self._owners: dict[str, dict[str, dict[str, str]]] = {}
        """By layer, by scope (``bi/forward_g/gru_cell``): the names of weights by their last part."""
        self._places: dict[str, list[tuple[str, str]]] = {}
        """By path: in which layer's group lies which weight."""
        count = 0
        for layer in _texts(root, "layer_names"):
            group = hdf5.subgroup(root, layer)
            owners = self._owners.setdefault(layer, {})
            for name in _texts(group, "weight_names") if group is not None else []:
                scope, own = _split(name)
                owners.setdefault(scope, {})[own] = name
                count += 1
            if count > MAX_WEIGHTS:
                raise RefusedError(f"more than {MAX_WEIGHTS:,} weights, more than any model's")
            for scope, named in owners.items():
                chosen = [named[own] for own in (*_CELL, _TABLE) if own in named] or list(named.values())
                self._places[f"{layer}/{scope}"] = [(layer, name) for name in chosen]

    def variables(self, path: str) -> list[hdf5.Dataset]:
        """Those of the object at ``path``, in Keras's order; none where there is no such object."""
        found = []
        for layer, name in self._places.get(path, []):
            group = hdf5.subgroup(self._root, layer)
            dataset = hdf5.descend(group, name) if group is not None else None
            if isinstance(dataset, hdf5.Dataset) and dataset.shape is not None:
                found.append(dataset)
        return found

    def bound(self, layer: str, parts: Sequence[Part]) -> list[Part]:
        """The parts of one of the model's own layers, as its configuration has them, with the paths of their weights.

        Where the configuration tells of no cell, the names of the weights do.
        """
        cells = [c for part in _trainable_first(p for p in parts if isinstance(p, Recurrent)) for c in part.cells]
        tables = _trainable_first(part for part in parts if isinstance(part, Table))
        scopes, table_scopes = self._scopes(layer, _CELL[1]), self._scopes(layer, _TABLE)
        if not cells and not tables and not scopes:
            return self._others(layer, parts)
        paths: dict[int, str] = {}
        fault = ""
        if len(cells) == len(scopes):
            paths |= {id(cell): f"{layer}/{scope}" for cell, scope in zip(cells, scopes, strict=True)}
        else:
            fault = f"the configuration tells of {len(cells)} recurrent cells in {layer}, the weights of {len(scopes)}"
        if len(tables) == len(table_scopes):
            paths |= {id(table): f"{layer}/{scope}" for table, scope in zip(tables, table_scopes, strict=True)}

        def settled(cell: Cell) -> Cell:
            return replace(cell, path=paths.get(id(cell), ""), fault=cell.fault or fault)

        result: list[Part] = []
        for part in parts:
            if isinstance(part, Recurrent):
                tracks = [replace(track, cells=tuple(map(settled, track.cells))) for track in part.tracks]
                result.append(replace(part, tracks=tuple(tracks)))
            elif isinstance(part, Table):
                result.append(replace(part, path=paths.get(id(part), "")))
        return result if cells else result + [part for part in self._found(layer) if isinstance(part, Recurrent)]

    def parts(self, known: Container[str] = ()) -> list[Part]:
        """All layers except those ``told``, by the names of their weights alone."""
        layers = [layer for layer in self._owners if layer not in known]
        return [part for layer in layers for part in self._found(layer) or self._others(layer, ())]

    def _scopes(self, layer: str, own: str) -> list[str]:
        return [scope for scope, named in self._owners.get(layer, {}).items() if own in named]

    def _others(self, layer: str, parts: Sequence[Part]) -> list[Part]:
        held = [own for named in self._owners.get(layer, {}).values() for own in named]
        if not held:
            return []
        classes = [part.what for part in parts if isinstance(part, Other)]
        what = classes[0] if len(classes) == 1 else f"weights {', '.join(held[:4])}" + ", …" * (len(held) > 4)
        return [Other(layer, "", what)]

    def _found(self, layer: str) -> list[Part]:
        """The recurrent layers and tables in a layer's group, by the scopes of their weights."""
        scopes = self._scopes(layer, _CELL[1])
        cells = {scope: self._cell(layer, scope) for scope in scopes}
        found: list[Part] = [Table(layer, f"{layer}/{scope}") for scope in self._scopes(layer, _TABLE)[:1]]
        names = {scope: _inner(scope, layer) for scope in scopes}
        sides = [
            Track(side, (cells[scope],), side == "backward")
            for side in ("forward", "backward")
            for scope in scopes
            if any(part.startswith(f"{side}_") for part in scope.split("/"))
        ]
        if len(scopes) == len(sides) == 2 and sides[0].name != sides[1].name:
            return [*found, Recurrent(layer, tuple(sides), configured=False)]
        if len(scopes) > 1 and all("stacked_rnn_cells" in scope.split("/") for scope in scopes):
            return [*found, Recurrent(layer, (Track(layer, tuple(cells.values())),), configured=False)]
        for scope in scopes:
            name = dotted(layer, names[scope] if len(scopes) > 1 else "")
            found.append(Recurrent(name, (Track(name, (cells[scope],)),), configured=False))
        return found

    def _cell(self, layer: str, scope: str) -> Cell:
        owners = self._owners[layer]
        more = sorted(owners[scope].keys() - set(_CELL)) + [s for s in owners if s.startswith(f"{scope}/")]
        fault = f"it holds more than Keras's own cells do: {', '.join(more[:4])}" if more else ""
        return Cell(scope.rpartition("/")[2], f"{layer}/{scope}", fault=fault)


def _split(name: str) -> tuple[str, str]:
    """The scope of a weight, and its own name there; of ``lstm/kernel_1:0``, ``lstm#1`` and ``kernel``."""
    scope, _, own = name.rpartition("/")
    own = own.partition(":")[0]
    again = _AGAIN.fullmatch(own)
    return (f"{scope}#{again[2]}", again[1]) if again else (scope, own)


def _inner(scope: str, layer: str) -> str:
    """What a scope says beyond the name of the layer and that of the cell."""
    parts = scope.split("/")
    if layer in parts:
        parts = parts[parts.index(layer) + 1 :]
    if len(parts) > 1 and "cell" in parts[-1]:
        parts.pop()
    return dotted(*parts)


def _trainable_first(parts: Iterable[_Weighted]) -> list[_Weighted]:
    """The order in which Keras writes what a layer consists of."""
    return sorted(parts, key=lambda part: not part.trainable)


def _texts(group: hdf5.Group, name: str) -> list[str]:
    """A list of names, which Keras cuts in pieces where it is too long for one attribute."""
    found = hdf5.texts(group, name)
    for piece in range(0 if found else MAX_PIECES):
        more = hdf5.texts(group, f"{name}{piece}")
        if not more:
            break
        found += more
    return found
