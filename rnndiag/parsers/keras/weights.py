"""Keras 3's layout of weights: a group an object, named for the attributes that lead to it, its variables in ``vars``.

``layers/bidirectional/forward_layer/cell/vars/0`` (keras/src/saving/saving_lib.py). Without a configuration, the
cells are recognized by these names and by the shapes of their variables.
"""

from __future__ import annotations

import re
from typing import Final

from rnndiag.parsers import hdf5
from rnndiag.parsers.keras.layers import Cell, Other, Part, Recurrent, Table, Track, dotted
from rnndiag.parsers.parsed import RefusedError

MAX_GROUPS: Final = 10_000
"""Looked at in one file; a model has some three a layer."""
MAX_DEPTH: Final = 100
"""Of groups in groups."""

_EARLY: Final = "_layer_checkpoint_dependencies"
"""What ``layers`` was in Keras 2.12, which counted layers with weights twice: ``lstm``, ``lstm_2``, ``lstm_4``."""
_STATE: Final = frozenset({"optimizer", "metrics", "seed_generator"})
_SIDES: Final = ("forward_layer", "backward_layer")
_EMBEDDING: Final = re.compile("emb", re.IGNORECASE)


class Variables:
    """The weights of a file in this layout."""

    def __init__(self, root: hdf5.Group) -> None:
        self._root = root
        self._own_names: dict[str, str] = {}

    def variables(self, path: str) -> list[hdf5.Dataset]:
        """Those of the object at ``path``, in Keras's order; none where there is no such object."""
        group = hdf5.subgroup(self._root, f"{self.place(path)}/vars")
        return _numbered(group) if group is not None else []

    def holds(self, path: str) -> bool:
        """Whether anything lies in the object at ``path`` or its parts."""
        return bool(self._groups(self.place(path)))

    def parts(self, path: str = "", name: str = "") -> list[Part]:
        """What lies at ``path`` and below, by names and shapes; ``name`` is what the object there is called."""
        path = self.place(path)
        groups = self._groups(path)
        found: dict[str, Part | dict[str, list[Cell]]] = {}
        for place, datasets in groups.items():
            shapes = [dataset.shape for dataset in datasets]
            cell = _cell(place, self._own_name(place), shapes)
            if cell is not None:
                if any(other.startswith(f"{place}/") for other in groups):
                    cell = Cell(cell.name, place, fault="it holds more than Keras's own cells do")
                layer, side = _owner(place)
                tracks = found.setdefault(layer, {})
                if isinstance(tracks, dict):
                    tracks.setdefault(side, []).append(cell)
            elif len(shapes) == 1 and len(shapes[0]) == 2 and _EMBEDDING.search(self._own_name(place) + place):
                found[place] = Table(self._name(place, path, name), place)
            else:
                shown = ", ".join(str(list(shape)) for shape in shapes[:4]) + ", …" * (len(shapes) > 4)
                found[place] = Other(self._name(place, path, name) or "(top level)", place, f"variables {shown}")
        return [
            _recurrent(self._name(place, path, name) or "cell", part) if isinstance(part, dict) else part
            for place, part in found.items()
        ]

    def place(self, path: str) -> str:
        """Where the object lies that Keras 3 would keep at ``path``."""
        if not path or hdf5.subgroup(self._root, _EARLY) is None:
            return path
        place: list[str] = []
        for component in path.split("/"):
            name = _EARLY if component == "layers" else component
            siblings = hdf5.subgroup(self._root, "/".join(place)) if place[-1:] == [_EARLY] else None
            if siblings is not None:
                stem, count = _natural(component)
                alike = sorted((each for each in hdf5.names(siblings) if _natural(each)[0] == stem), key=_natural)
                name = alike[count] if count < len(alike) else name
            place.append(name)
        return "/".join(place)

    def _groups(self, path: str) -> dict[str, list[hdf5.Dataset]]:
        """The objects at ``path`` and below that have variables, except the state of an optimizer.

        In a list they come in the order of their counts, ``lstm_2`` before ``lstm_10``.
        """
        start = hdf5.subgroup(self._root, path) if path else self._root
        held: dict[str, list[hdf5.Dataset]] = {}
        todo = [(path, start, 0)] if start is not None else []
        seen: set[int] = set()
        while todo:
            place, group, depth = todo.pop()
            if hdf5.identity(group) in seen:
                continue
            seen.add(hdf5.identity(group))
            if len(seen) > MAX_GROUPS or depth > MAX_DEPTH:
                raise RefusedError(
                    f"more than {MAX_GROUPS:,} groups, or more than {MAX_DEPTH} in each other: more than any model's"
                )
            children = {name: hdf5.subgroup(group, name) for name in hdf5.names(group) if name not in _STATE}
            own = children.pop("vars", None)
            datasets = _numbered(own) if own is not None else []
            if datasets:
                held[place] = datasets
            below = sorted(children, key=_natural, reverse=True)
            todo += [(f"{place}/{n}".lstrip("/"), g, depth + 1) for n in below if (g := children[n]) is not None]
        return held

    def _own_name(self, path: str) -> str:
        """What the object at ``path`` is called; Keras 3 writes it down."""
        if path not in self._own_names:
            group = hdf5.subgroup(self._root, f"{path}/vars".lstrip("/"))
            self._own_names[path] = "".join(hdf5.texts(group, "name")[:1]) if group is not None else ""
        return self._own_names[path]

    def _name(self, path: str, start: str, name: str) -> str:
        """The names along ``path`` from ``start`` on: of an element of a list its own, else the attribute's."""
        components = path.split("/") if path else []
        shown = []
        for i in range(len(start.split("/")) if start else 0, len(components)):
            in_list = i > 0 and components[i - 1] in ("layers", _EARLY)
            own = self._own_name("/".join(components[: i + 1])) if in_list else ""
            shown.append("" if components[i] in ("layers", _EARLY) else own or components[i])
        return dotted(name, *shown)


def _numbered(group: hdf5.Group) -> list[hdf5.Dataset]:
    """The datasets ``0``, ``1``, … in order."""
    numbers = sorted((name for name in hdf5.names(group) if name.isdecimal() and len(name) < 6), key=int)
    found = [hdf5.child(group, name) for name in numbers]
    return [dataset for dataset in found if isinstance(dataset, hdf5.Dataset) and dataset.shape is not None]


def _cell(path: str, own_name: str, shapes: list[tuple[int, ...]]) -> Cell | None:
    """The cell at ``path``, if it is one."""
    name = own_name or path.rpartition("/")[2]
    at_cell = re.search(r"(?:^|/)cell(?:/cells/[^/]*)?$", path) is not None
    if len(shapes) in (2, 3) and all(len(shape) == 2 for shape in shapes[:2]):
        (_, width), (hidden, rows) = shapes[:2]
        fits = width == rows and rows in (3 * hidden, 4 * hidden)
        # [D, H] and [H, H] are many things.
        if fits or (width == rows == hidden and (at_cell or re.search("cell|rnn", name, re.IGNORECASE))):
            return Cell(name, path)
    if not at_cell:
        return None
    shown = ", ".join(str(list(shape)) for shape in shapes[:4])
    return Cell(name, path, fault=f"its variables are not those of SimpleRNN, GRU or LSTM: {shown}")


def _owner(path: str) -> tuple[str, str]:
    """The path of the layer that a cell is in, and which side of it, if it has two."""
    layer = re.sub(r"(?:^|/)cell(?:/cells/[^/]*)?$", "", path)
    head, _, last = layer.rpartition("/")
    return (head, last) if last in _SIDES else (layer, "")


def _recurrent(name: str, sides: dict[str, list[Cell]]) -> Recurrent:
    tracks = tuple(
        Track(side.removesuffix("_layer"), tuple(sides[side]), side == "backward_layer")
        for side in ("", *_SIDES)
        if side in sides
    )
    return Recurrent(name, tracks, configured=False)


def _natural(name: str) -> tuple[str, int]:
    stem, _, count = name.rpartition("_")
    return (stem, int(count)) if stem and count.isdecimal() and len(count) < 10 else (name, 0)
