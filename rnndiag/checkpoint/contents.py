"""What every reader makes of its file: named tensors, and what the file says about them.

A reader knows one format and nothing of recurrent layers; ``find`` knows recurrent layers and no format.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rnndiag.checkpoint.model import Skipped

Nonlinearity: TypeAlias = Literal["tanh", "relu"]

MAX_NAME: Final = 1000
"""Characters of a key, or of a path from the top of the file; real ones stay below a hundred or two."""

MAX_TENSORS: Final = 100_000
"""Tensors of one file that a reader names one by one; each takes some 20 microseconds to be passed over."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """The keys that lead to a part of a file, linked to the parent's so that a hostile depth costs nothing."""

    parent: Path | None = None
    key: str = ""
    length: int = 0
    """Characters of the whole path."""

    def child(self, key: str) -> Path:
        """The path of the part under ``key``."""
        return Path(self, key, self.length + len(key) + 1)

    @property
    def parts(self) -> tuple[str, ...]:
        """The keys, outermost first; empty for the top of the file."""
        keys = []
        here: Path | None = self
        while here is not None and here.parent is not None:
            keys.append(here.key)
            here = here.parent
        return tuple(reversed(keys))


@dataclass(frozen=True, slots=True)
class Unusable:
    """A tensor that was not rebuilt, and why."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """A tensor that is still in its file: compressed, in pieces, or elsewhere. It is read when a layer needs it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor | Unusable]
    """Gives the same tensor, or an equal one, at each call; raises what damaged data raise."""


class Dequantised(Deferred):
    """A tensor that the file holds as integers with scales, as float32: several times what it takes there."""


Leaf: TypeAlias = Tensor | Deferred | Unusable


def value_of(leaf: Leaf) -> Tensor | Unusable:
    """The tensor itself, read now if it is still in its file."""
    return leaf.read() if isinstance(leaf, Deferred) else leaf


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What a file says of a module that its parameters do not."""

    class_path: str = ""
    """Module and qualified name, e.g. ``torch.nn.modules.rnn.GRU``; empty: the file names no class."""
    nonlinearity: Nonlinearity | None = None
    reset_after: bool = True
    """False: a GRU whose reset gate multiplies the state, not its product with ``W_hn``."""
    backwards: bool = False
    """True: its layers of one direction run from the end of the sequence to its start."""


@dataclass(frozen=True, slots=True)
class Container:
    """One dict of tensors, or one pickled module with all its children."""

    path: Path
    """Where it lies in the file."""
    tensors: Mapping[str, Leaf]
    """By dotted name, as in a state_dict: ``encoder.rnn.weight_hh_l0``."""
    facts: Mapping[str, ModuleFacts] = field(default_factory=dict)
    """By module path (the dotted name without its last component); empty for a state_dict."""


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


def combined(parts: Mapping[str, Contents]) -> Contents:
    """The contents of several files as one, each file's parts under its name."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    containers = []
    for name, contents in parts.items():
        for container in contents.containers:
            path = Path().child(name)
            for key in container.path.parts:
                path = path.child(key)
            containers.append(replace(container, path=path))
    each = parts.values()
    return Contents(
        sum(contents.size for contents in each),
        tuple(containers),
        tuple(skipped for contents in each for skipped in contents.skipped),
        tuple(statement for contents in each for statement in contents.statements),
        tuple(dict.fromkeys(note for contents in each for note in contents.notes)),
        framework=common_framework(each),
    )


def common_framework(parts: Iterable[Contents]) -> str:
    """The framework of all parts; empty if a part does not say its framework, or if the frameworks differ."""
    frameworks = {contents.framework for contents in parts}
    return frameworks.pop() if len(frameworks) == 1 else ""
