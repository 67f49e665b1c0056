"""What every reader makes of its file: named tensors, and what the file says about them.

A reader knows one format and nothing of recurrent layers; ``find`` knows recurrent layers and no format.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch
from torch import Tensor

from rnndiag.files.text import listing, shape_of
from rnndiag.kinds import PYTORCH_FORM, Form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rnndiag.checkpoint.location import Location
    from rnndiag.checkpoint.model import Skipped
    from rnndiag.parsers.parsed import Convention

Nonlinearity: TypeAlias = Literal["tanh", "relu"]

MAX_NAME_CHARACTERS: Final = 1000
"""Characters of a key, or of a path from the top of the file; real ones stay below a hundred or two."""

MAX_TENSORS: Final = 100_000
"""Tensors of one file that a reader names one by one; skipping one takes some 20 microseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyPath:
    """The keys that lead to a part of a file, linked to the parent's so that a hostile depth costs nothing."""

    parent: KeyPath | None = None
    key: str = ""
    length: int = 0
    """Characters of the whole path."""

    def child(self, key: str) -> KeyPath:
        """The path of the part under ``key``."""
        return KeyPath(self, key, self.length + len(key) + 1)

    @property
    def parts(self) -> tuple[str, ...]:
        """The keys, outermost first; empty for the top of the file."""
        keys = []
        here: KeyPath | None = self
        while here is not None and here.parent is not None:
            keys.append(here.key)
            here = here.parent
        return tuple(reversed(keys))


@dataclass(frozen=True, slots=True)
class Unusable:
    """A tensor that was not rebuilt, and why."""

    reason: str


COMPUTED: Final = "its numbers are computed from those in the file, not only rearranged"


def not_located() -> str:
    """The answer of a tensor that was computed from other tensors."""
    return COMPUTED


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor of a file. Its numbers are read when a layer needs them."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor | Unusable]
    """Gives the same tensor, or an equal tensor, at each call; raises what damaged data raise."""
    locate: Callable[[], Location | tuple[Chunk, ...] | str] = not_located
    """Gives the location of the numbers; the chunks, if each has a location of its own; or why there is no location."""


class DequantizedTensor(StoredTensor):
    """A tensor that the file stores as integers with scales, as float32: several times its size in the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A box within a tensor, stored by itself."""

    offsets: tuple[int, ...]
    """The indices of its first number in the whole tensor."""
    tensor: Leaf


Leaf: TypeAlias = StoredTensor | Unusable


def value_of(leaf: Leaf) -> Tensor | Unusable:
    """The tensor itself, read now."""
    return leaf if isinstance(leaf, Unusable) else leaf.read()


def in_memory(tensor: Tensor) -> StoredTensor:
    """A tensor that a reader made in memory, as a leaf; it has no location in a file."""
    return StoredTensor(tuple(tensor.shape), tensor.dtype, partial(_itself, tensor))


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def assemble(shape: tuple[int, ...], dtype: torch.dtype, chunks: Sequence[Chunk]) -> Tensor | Unusable:
    """A tensor from its chunks, which together have as many numbers as the tensor."""
    if len(chunks) == 1:
        return value_of(chunks[0].tensor)
    whole, filled = torch.empty(shape, dtype=dtype), torch.zeros(shape, dtype=torch.bool)
    for chunk in chunks:
        numbers = value_of(chunk.tensor)
        if isinstance(numbers, Unusable):
            return numbers
        box = tuple(slice(o, o + s) for o, s in zip(chunk.offsets, numbers.shape, strict=True))
        whole[box], filled[box] = numbers, True
    return whole if bool(filled.all()) else Unusable(f"its chunks overlap and do not fill {shape_of(shape)}")


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What a file says of a module that its parameters do not."""

    class_path: str = ""
    """Module and qualified name, e.g. ``torch.nn.modules.rnn.GRU``; empty: the file names no class."""
    nonlinearity: Nonlinearity | None = None
    likely: Nonlinearity = "tanh"
    """The nonlinearity to assume where nothing says it."""
    reset_after: bool = True
    """False: a GRU whose reset gate multiplies the state, not its product with ``W_hn``."""
    kind: str = ""
    """The kind of cell by its name in ``rnndiag.kinds``; empty: PyTorch's cell with as many gates. ``leaky`` and
    ``leaky_current`` leave the nonlinearity open."""
    form: Form = PYTORCH_FORM
    extra: Mapping[str, Leaf] = field(default_factory=dict)
    """Parameters beyond PyTorch's, by their names in the file of the cell, with PyTorch's suffixes."""
    alpha: float | None = None
    """The leak of a leaky RNN, where the user gave it for this module."""
    backwards: bool = False
    """True: its layers of one direction run from the end of the sequence to its start."""


@dataclass(frozen=True, slots=True)
class Container:
    """One dict of tensors, or one pickled module with all its children."""

    path: KeyPath
    """Where it lies in the file."""
    tensors: Mapping[str, Leaf]
    """By dotted name, as in a state_dict: ``encoder.rnn.weight_hh_l0``."""
    facts: Mapping[str, ModuleFacts] = field(default_factory=dict)
    """By module path (the dotted name without its last component); empty for a state_dict."""
    conventions: Mapping[str, Convention] = field(default_factory=dict)
    """How modules are stored whose tensors are named by role, as ``Parsed`` names them; by module path."""
    chains: tuple[tuple[str, ...], ...] = ()
    """Modules, by path, that are levels of one stack, the lowest first."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a file that may matter, in the file's order."""

    size: int
    """Bytes of tensors that the file can hold: its size, or what it unpacks to."""
    containers: tuple[Container, ...]
    skipped: tuple[Skipped, ...] = ()
    """Whole parts that hold no layers, such as optimizer state."""
    statements: tuple[tuple[str, Nonlinearity], ...] = ()
    """Where a setting of the file names a nonlinearity, and which."""
    notes: tuple[str, ...] = ()
    """What the reader took for granted or converted, such as an order of gates; one sentence each."""
    progress: Mapping[str, int] = field(default_factory=dict)
    """Counters of training steps or epochs that the file holds, by their names (``progress.KEYS``)."""
    framework: str = ""
    """The framework that the model was built with, in its usual spelling (``PyTorch``); empty if not known."""
    auxiliary: str = ""
    """What the file holds if it is not a model but was written next to one, such as ``optimizer state only``."""
    statements_by_part: Mapping[str, tuple[tuple[str, Nonlinearity], ...]] = field(default_factory=dict)
    """The statements of each file of an archive, by the first key of the paths of its containers."""


def combined(parts: Mapping[str, Contents]) -> Contents:
    """The contents of several files as one, each file's parts under its name."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    containers = []
    for name, contents in parts.items():
        for container in contents.containers:
            path = KeyPath().child(name)
            for key in container.path.parts:
                path = path.child(key)
            containers.append(replace(container, path=path))
    return Contents(
        sum(contents.size for contents in parts.values()),
        tuple(containers),
        tuple(replace(each, name=f"{name}.{each.name}") for name, part in parts.items() for each in part.skipped),
        notes=tuple(_shared_notes(parts)),
        framework=common_framework(parts.values()),
        statements_by_part={name: part.statements for name, part in parts.items()},
    )


def _shared_notes(parts: Mapping[str, Contents]) -> Iterator[str]:
    """The notes of several files, each once, with the names of its files if it is not about all of them."""
    about: defaultdict[str, list[str]] = defaultdict(list)
    for name, contents in parts.items():
        for note in contents.notes:
            about[note].append(name)
    for note, names in about.items():
        yield note if len(names) == len(parts) else f"{note} (in {listing(names, 3)})"


def common_framework(parts: Iterable[Contents]) -> str:
    """The framework of all parts; empty if a part does not say its framework, or if the frameworks differ."""
    frameworks = {contents.framework for contents in parts}
    return frameworks.pop() if len(frameworks) == 1 else ""
