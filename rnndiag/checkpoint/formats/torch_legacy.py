"""Files that ``torch.save`` wrote before PyTorch 1.6: five pickles in a row, then the storages."""

from __future__ import annotations

import os
import pickle
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

import torch
from torch import Tensor
from torch.storage import TypedStorage

from rnndiag.checkpoint.formats.base import Candidate, Reader, written_back
from rnndiag.checkpoint.location import Place
from rnndiag.checkpoint.unpickling.unpickler import File, InertUnpickler
from rnndiag.checkpoint.unpickling.walk import walk
from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents, Deferred
    from rnndiag.checkpoint.location import Ledger

COUNT: Final = 8
"""Bytes before the data of each storage, which say how many numbers they are."""

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
    return _read(path)[1]


def places(path: Path, ledger: Ledger) -> Contents:
    """The same with addresses in place of numbers."""
    pickles, contents = _read(path)
    starts = pickles.starts()

    def place(leaf: Tensor | Deferred) -> Place | str:
        assert isinstance(leaf, Tensor)  # as torch.load makes them
        start = starts.get(leaf.untyped_storage().data_ptr())
        if start is None:
            return "its numbers do not lie in the file as they are"
        start += int(leaf.storage_offset()) * leaf.element_size()
        return Place(path, start, tuple(leaf.shape), leaf.stride(), leaf.dtype, sys.byteorder != "little")

    return ledger.contents(contents, place)


def _read(path: Path) -> tuple[_InertPickle, Contents]:
    size = path.stat().st_size
    storages = _Storages(size)
    pickles = _InertPickle(storages.admit)
    with path.open("rb") as file:
        loaded = _load(path, pickles, _without_descriptor(file))
    empty = storages.sizes.keys() - set(pickles.storage_keys)
    if empty:
        raise CheckpointError(f"{path}: storage {printable(min(empty))} has no data: save the file again")
    return pickles, walk(loaded, size)


READER: Final = Reader("torch-legacy", _accepts, read, places, written_back)


class _Unpickler(InertUnpickler):
    storages: ClassVar[dict[str, TypedStorage]]

    def _storage(self, tag: object, kind: object, key: Any, location: object, *rest: Any) -> object:
        storage = super()._storage(tag, kind, key, location, *rest)
        if isinstance(storage, TypedStorage):
            self.storages[key] = storage
        return storage


class _InertPickle:
    """The pickle module to give to ``torch.load``.

    Args:
        admit: raises ``pickle.UnpicklingError`` unless the file can hold the storage of that key and
            number of bytes; asked before torch allocates it.
    """

    def __init__(self, admit: Callable[[str, int], None]) -> None:
        self.__name__ = __name__  # torch.load asks for it
        self.storages: dict[str, TypedStorage] = {}
        """By key."""
        options = {"admit": staticmethod(admit), "storages": self.storages}
        self.Unpickler = type("Unpickler", (_Unpickler,), options)
        self.storage_keys: list[str] = []
        """The keys of a legacy file's storages, in the order of their data."""
        self._stop = 0

    def load(self, file: File, **options: Any) -> object:
        """Read one of a legacy file's plain values: magic number, version, platform or storage keys."""
        value = InertUnpickler(file, **options).load()
        if type(value) is list and all(type(key) is str for key in value):
            self.storage_keys, self._stop = value, file.tell()
        elif type(value) not in (int, dict):
            raise pickle.UnpicklingError("its header is malformed")
        return value

    def starts(self) -> dict[int, int]:
        """Where in the file the data of each storage begin, by its address in memory: they follow the pickles."""
        starts = {}
        at = self._stop
        for key in self.storage_keys:
            held = self.storages[key]._untyped_storage
            at += COUNT
            if held.nbytes():
                starts[held.data_ptr()] = at
            at += held.nbytes()
        return starts


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
