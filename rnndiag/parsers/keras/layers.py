"""What the parts of a Keras model are to rnndiag, whether its configuration or only its weights tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind: TypeAlias = Literal["rnn", "gru", "lstm"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One recurrent cell; its variables are kernel, recurrent kernel and, where it has one, bias."""

    name: str
    path: str
    """Where its variables lie, as ``Weights.variables`` takes it."""
    kind: Kind | None = None
    """None: the shapes are to tell."""
    activation: Literal["tanh", "relu"] | None = None
    """None: not stated."""
    gate: Literal["sigmoid", "hard_sigmoid"] | None = None
    """Of an ``LSTM`` or ``GRU``, its ``recurrent_activation``; None: not stated."""
    reset_after: bool | None = None
    """Of a ``GRU``; None: not stated."""
    units: int | None = None
    """None: not stated."""
    is_cudnn: bool = False
    """Kernels in cuDNN's own layout."""
    fault: str = ""
    """Why it cannot be measured."""


@dataclass(frozen=True, slots=True)
class Track:
    """Cells that feed one another at each step, in one direction of time."""

    name: str
    cells: tuple[Cell, ...]
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A recurrent layer: one track, or two where it is bidirectional."""

    name: str
    """Dotted, with the names of the models that it is nested in."""
    tracks: tuple[Track, ...]
    merge: str = "concat"
    """What a bidirectional layer makes of its two outputs."""
    trainable: bool = True
    configured: bool = True
    """Whether a config states its activations."""
    class_path: str = ""
    """The layer's class, if it is not one of Keras's own but has the configuration of an LSTM or a GRU."""
    sequences: bool = True
    """Whether it outputs all steps, which the layer above needs."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Those of all tracks."""
        return tuple(cell for track in self.tracks for cell in track.cells)


@dataclass(frozen=True, slots=True)
class Table:
    """An embedding; its one variable is ``[V, D]``."""

    name: str
    path: str
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Other:
    """Any other layer: its name, where its variables lie, and its class or whatever tells of it."""

    name: str
    path: str
    what: str


Part: TypeAlias = Recurrent | Table | Other


def dotted(*names: str) -> str:
    """The names of nested models and of a layer in them as one."""
    return ".".join(name for name in names if name)


def counted(stems: Iterable[str]) -> Iterator[str]:
    """``lstm, dense, lstm`` as ``lstm, dense, lstm_1``: how Keras tells apart what it keeps in one list."""
    used: Counter[str] = Counter()
    for stem in stems:
        yield f"{stem}_{used[stem]}" if used[stem] else stem
        used[stem] += 1
