"""Keras's recurrent layers as modules with levels and directions: ``bi.ih_l0``, ``bi.ih_l0_reverse``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from rnndiag.errors import UnfitError, UnreadableError
from rnndiag.files.text import listing
from rnndiag.parsers import hdf5
from rnndiag.parsers.keras.cells import convention_of, resolve, with_defaults
from rnndiag.parsers.keras.chains import Chains, Layer, Level
from rnndiag.parsers.keras.layers import Cell, Part, Recurrent, Table, dotted
from rnndiag.parsers.keras.versions import FORMULAS

if TYPE_CHECKING:
    import numpy as np

    from rnndiag.parsers.keras.feeds import Feeds
    from rnndiag.parsers.keras.versions import Version
    from rnndiag.parsers.parsed import Convention, Parsed

MAX_NAME: Final = 1000
"""Characters of a layer's dotted name."""

_MERGES: Final = ("sum", "mul", "ave", "None")


class Weights(Protocol):
    """Where variables lie in a file."""

    def variables(self, path: str) -> list[hdf5.Dataset]:
        """Those of the object at ``path``, in Keras's order; none where there is no such object."""
        ...


class Modules:
    """Fills a ``Parsed`` with layers, one by one.

    Args:
        parsed: is filled.
        file: what the weights are read from.
        weights: where they lie in it.
        version: of the Keras that wrote them.
        feeds: what each recurrent layer reads; None if no configuration states it.
    """

    def __init__(
        self, parsed: Parsed, file: hdf5.Hdf5, weights: Weights, version: Version, feeds: Feeds | None = None
    ) -> None:
        self._parsed = parsed
        self._file = file
        self._weights = weights
        self._version = version
        self._chains = Chains(feeds)
        self._names: set[str] = set()
        self._widths: set[int] = set()
        """Inputs of the recurrent layers."""
        self._said: dict[str, list[str]] = {}
        """What is to be noted of which layers."""

    def add(self, part: Part) -> None:
        """One layer: its tensors, or why there are none. Tables come after the layers that read them."""
        name = part.name.encode(errors="replace").decode()
        if len(name) > MAX_NAME:
            self._skip(name, "its name is too long", recurrent=isinstance(part, Recurrent))
        elif isinstance(part, Recurrent):
            try:
                self._recurrent(part, name)
            except (UnfitError, UnreadableError) as fault:
                self._skip(name, f"recurrent, but {fault}", recurrent=True)
        elif isinstance(part, Table):
            self._table(part, name)
        else:
            self._skip(name, f"not recurrent: {part.what}", recurrent=False)

    def finish(self) -> None:
        """Write down what was noted, and which modules feed one another."""
        self._chains.write(self._parsed)
        self._parsed.notes += [sentence.format(listing(names)) for sentence, names in self._said.items()]

    def _recurrent(self, part: Recurrent, name: str) -> None:
        cells = [[self._resolved(cell) for cell in track.cells] for track in part.tracks]
        conventions = [[convention_of(cell, self._version, backwards=False) for cell in track] for track in cells]
        held = [[self._read(cell) for cell in track] for track in cells]
        first = (conventions[0][0], held[0][0])
        alike = all(
            _alike(*first, convention, arrays)
            for track, stored in zip(conventions, held, strict=True)
            for convention, arrays in zip(track, stored, strict=True)
        )
        backwards = [track.backwards for track in part.tracks]
        made = []
        both = len(part.tracks) == 2 and len(cells[0]) == len(cells[1]) == 1 and backwards[0] != backwards[1]
        if alike and both:
            suffixes = ["_l0_reverse" if reverse else "_l0" for reverse in backwards]
            levels = dict(zip(suffixes, (held[0][0], held[1][0]), strict=True))
            made.append(self._module(name, cells[0][0], levels, part, None))
        elif alike and len(part.tracks) == 1:
            levels = {f"_l{i}": each for i, each in enumerate(held[0])}
            made.append(self._module(name, cells[0][0], levels, part, backwards[0]))
        else:
            for track, own, arrays in zip(part.tracks, cells, held, strict=True):
                side = track.name if len(part.tracks) > 1 else ""
                for cell, each in zip(own, arrays, strict=True):
                    inner = cell.name if len(own) > 1 else ""
                    made.append(self._module(dotted(name, side, inner), cell, {"_l0": each}, part, track.backwards))
        # Weights alone do not tell the order of cells that differ.
        is_one = (alike and both) or (len(part.tracks) == 1 and (alike or part.configured))
        forward_first = len(part.tracks) == 1 or (part.merge == "concat" and not backwards[0])
        if is_one:
            gives_whole = part.sequences and forward_first and not part.class_path
            self._chains.add(Layer(part.name, part.name, tuple(made), not part.class_path, gives_whole))
        else:
            for level in made:
                self._chains.add(Layer(level.name, part.name, (level,), not part.class_path, gives_whole=False))
        if len(part.tracks) == 2 and part.merge != "concat":
            how = part.merge if part.merge in _MERGES else "other means"
            self._say(f"the directions of {{}} are merged by {how} in the model; they were measured side by side", name)

    def _resolved(self, cell: Cell) -> Cell:
        datasets = [] if cell.fault else self._weights.variables(cell.path)
        resolved = resolve(cell, [tuple(dataset.shape) for dataset in datasets])
        for dataset in datasets:
            self._file.check(dataset)
        return with_defaults(resolved, self._version)

    def _read(self, cell: Cell) -> dict[str, np.ndarray]:
        """The cell's variables by role; Keras has them in this order."""
        arrays = [self._file.read(dataset) for dataset in self._weights.variables(cell.path)]
        return dict(zip(("ih", "hh", "bias"), arrays, strict=False))

    def _module(
        self,
        name: str,
        cell: Cell,
        levels: dict[str, dict[str, np.ndarray]],
        part: Recurrent,
        backwards: bool | None,
    ) -> Level:
        """Hand one module over.

        Args:
            name: of the module.
            cell: each of its cells.
            levels: the arrays of each level and direction, by the suffix of their names.
            part: the layer that it is, or is a part of.
            backwards: its direction; None for a module with both.
        """
        name = self._unique(name)
        for suffix, named in levels.items():
            self._parsed.tensors |= {f"{name}.{role}{suffix}": array for role, array in named.items()}
        known = convention_of(cell, self._version, backwards=bool(backwards))
        self._parsed.conventions[name] = replace(known, class_path=part.class_path)
        first = next(iter(levels.values()))
        inputs, hidden = first["ih"].shape[0], first["hh"].shape[0]
        self._widths.add(inputs)
        self._note(name, cell, part, has_bias="bias" in first)
        return Level(name, inputs, hidden * (1 + (backwards is None)), backwards)

    def _note(self, name: str, cell: Cell, part: Recurrent, *, has_bias: bool) -> None:
        """What is to be known about how a module was read."""
        version = self._version
        if cell.kind == "gru":
            self._say("Keras's gate order z, r, h was rearranged to PyTorch's r, z, n in {}", name)
        if cell.is_cudnn:
            self._say("cuDNN's own layout of weights was converted in {}", name)
        if cell.gate == "hard_sigmoid":
            known = "" if version.numbers else "; the file does not state its version of Keras, and Keras 2 was assumed"
            formula = FORMULAS[version.hard_sigmoid]
            self._say(f"the gates of {{}} are hard_sigmoid, {formula} in {version.shown}{known}", name)
        if part.configured:
            return
        if cell.kind == "gru" and not has_bias:
            self._say(
                f"reset_after={cell.reset_after}, the default of {version.shown}, was assumed for {{}}: without a bias"
                " nothing tells",
                name,
            )
        if cell.kind == "rnn":
            assumed = "no go_backwards"
        else:
            assumed = f"activation tanh, recurrent_activation {cell.gate}, no go_backwards"
        self._say(
            f"no configuration tells of {{}}: the kind was taken from shapes, and the defaults of {version.shown} were"
            f" assumed ({assumed}); the model's JSON next to the file as model.json would tell",
            name,
        )
        if version.is_undecided and cell.kind == "lstm" and not cell.is_cudnn:
            self._say(
                "TensorFlow 1 (hard_sigmoid) and TensorFlow 2 (sigmoid) both write the version 2.2.4-tf: TensorFlow 2"
                " was assumed for {}",
                name,
            )

    def _table(self, part: Table, name: str) -> None:
        datasets = self._weights.variables(part.path)
        shapes = [tuple(dataset.shape) for dataset in datasets]
        if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] not in self._widths:
            self._skip(name, "not recurrent: Embedding", recurrent=False)
            return
        try:
            self._file.check(datasets[0])
            array = self._file.read(datasets[0])
        except UnreadableError as error:
            self._skip(name, f"embedding, but {error}", recurrent=False)
            return
        # The finder knows a table by its name.
        name = self._unique(name if "emb" in name.rpartition(".")[2].lower() else dotted(name, "embeddings"))
        self._parsed.tensors[f"{name}.weight"] = array

    def _unique(self, name: str) -> str:
        count = 1
        unique = name
        while unique in self._names:
            count += 1
            unique = f"{name}#{count}"
        self._names.add(unique)
        return unique

    def _skip(self, name: str, reason: str, *, recurrent: bool) -> None:
        self._parsed.skipped.append((name[:MAX_NAME], reason, recurrent))

    def _say(self, sentence: str, name: str) -> None:
        self._said.setdefault(sentence, []).append(name)


def _alike(known: Convention, arrays: dict[str, np.ndarray], other: Convention, others: dict[str, np.ndarray]) -> bool:
    """Whether two cells can be levels or directions of one module of PyTorch's."""
    return known == other and arrays["hh"].shape == others["hh"].shape and arrays.keys() == others.keys()
