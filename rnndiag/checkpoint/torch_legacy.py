"""Files that ``torch.save`` wrote before PyTorch 1.6: five pickles in a row, then the storages."""

from __future__ import annotations

import os
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import torch

from rnndiag.checkpoint.inert import File, InertUnpickler
from rnndiag.checkpoint.reader import Candidate, Reader
from rnndiag.checkpoint.text import printable
from rnndiag.checkpoint.tree import walk
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents

MAGIC: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled integer that such a file begins with, after the protocol and, from protocol 4 on, a frame."""


def _accepts(candidate: Candidate) -> bool:
    head = candidate.head
    start = 11 if head[2:3] == pickle.FRAME else 2
    return head.startswith(pickle.PROTO) and head.startswith(MAGIC, start)


def read(path: Path) -> Contents:
    """Read the pickles inertly and fill storages that together are no larger than the file.

    Raises:
        CheckpointError: a storage that the pickle uses and the file does not fill; or the environment forbids
            torch.load any pickle module but its own.
    """
    size = path.stat().st_size
    storages = _Storages(size)
    pickles = _InertPickle(storages.admit)
    with path.open("rb") as file:
        loaded = _load(path, pickles, _without_descriptor(file))
    empty = storages.sizes.keys() - set(pickles.storage_keys)
    if empty:
        raise CheckpointError(f"{path}: storage {printable(min(empty))} has no data: save the file again")
    return walk(loaded, size)


READER: Final = Reader("torch-legacy", _accepts, read)


class _InertPickle:
    """The pickle module to give to ``torch.load``.

    Args:
        admit: raises ``pickle.UnpicklingError`` unless the file can hold the storage of that key and
            number of bytes; asked before torch allocates it.
    """

    def __init__(self, admit: Callable[[str, int], None]) -> None:
        self.__name__ = __name__  # torch.load asks for it
        self.Unpickler = type("Unpickler", (InertUnpickler,), {"admit": staticmethod(admit)})
        self.storage_keys: list[str] = []
        """The keys of a legacy file's storages, in the order of their data."""

    def load(self, file: File, **options: Any) -> object:
        """Read one of a legacy file's plain values: magic number, version, platform or storage keys."""
        value = InertUnpickler(file, **options).load()
        if type(value) is list and all(type(key) is str for key in value):
            self.storage_keys = value
        elif type(value) not in (int, dict):
            raise pickle.UnpicklingError("its header is malformed")
        return value


class _Storages:
    """What the pickle asks torch to allocate, held to the size of the file."""

    def __init__(self, size: int) -> None:
        self.sizes: dict[str, int] = {}
        self._left = size

    def admit(self, key: str, nbytes: int) -> None:
        if key in self.sizes:
            return
        if nbytes > self._left:
            raise pickle.UnpicklingError(f"a storage of {nbytes} bytes, and the file has {self._left} for it")
        self.sizes[key] = nbytes
        self._left -= nbytes


def _load(path: Path, pickles: _InertPickle, stream: BinaryIO) -> object:
    """``torch.load`` of ``stream``, the file at ``path``, with the pickle module ``pickles``."""
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0").lower() in ("1", "y", "yes", "true"):
        raise CheckpointError(
            f"{path}: TORCH_FORCE_WEIGHTS_ONLY_LOAD is set, and torch.load then takes no reader but its own:"
            " unset it for rnndiag, which runs nothing out of a file"
        )
    return torch.load(stream, map_location="cpu", pickle_module=pickles, weights_only=False)


def _without_descriptor(file: BinaryIO) -> BinaryIO:
    """The same file without ``fileno``, by which torch.load would try it as a tar archive first."""
    methods = ("read", "readinto", "readline", "seek", "tell")
    return SimpleNamespace(**{name: getattr(file, name) for name in methods})  # type: ignore[return-value]
