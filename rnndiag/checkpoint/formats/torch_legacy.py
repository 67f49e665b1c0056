"""Files that ``torch.save`` wrote before PyTorch 1.6: five pickles in a row, then the storages.

The pickles are a magic number, the version of the protocol, sizes of C types on the machine that wrote the file, the
saved object, and the keys of the storages in the order of their data.
"""

from __future__ import annotations

import pickle
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import torch
from torch import UntypedStorage

from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.location import Location
from rnndiag.checkpoint.unpickling.counts import is_count, is_short
from rnndiag.checkpoint.unpickling.rebuild import Storage
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.checkpoint.unpickling.unpickler import RestrictedUnpickler, TensorUnpickler
from rnndiag.checkpoint.unpickling.walk import walk
from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents

COUNT_BYTES: Final = 8
"""The size of the number before the data of each storage, which says how many numbers they are."""

MAGIC: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled integer that such a file begins with, after the protocol and, from protocol 4 on, a frame."""
MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION: Final = 1001


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins like this is of the format."""
    start = 11 if head[2:3] == pickle.FRAME else 2
    return head.startswith(pickle.PROTO) and head.startswith(MAGIC, start)


def _recognizes(candidate: Candidate) -> bool:
    return is_legacy(candidate.head)


def read(path: Path) -> Contents:
    """Read the pickles with the restricted unpickler; a storage is read when a layer needs it.

    Raises:
        CheckpointError: a storage that the pickle uses and the file does not fill.
        pickle.UnpicklingError: the file is damaged.
    """
    size = path.stat().st_size
    try:
        root = unpickle(lambda: path.open("rb"), size, path)
    except EmptyStorageError as error:
        raise CheckpointError(f"{path}: {error}: save the file again") from error
    return walk(root, size)


class EmptyStorageError(pickle.UnpicklingError):
    """A storage that the pickle uses and the file does not fill."""


def unpickle(reopen: Callable[[], BinaryIO], size: int, path: Path | None = None) -> object:
    """The object that was saved, read inertly.

    Args:
        reopen: opens the file.
        size: its size in bytes.
        path: the file, if it is a file of its own on the disk; without it, no tensor has a location.

    Raises:
        EmptyStorageError: a storage without data.
        pickle.UnpicklingError: the file is damaged.
    """
    storages = _Storages(reopen, size, path)
    with reopen() as file:
        if _plain(file) != MAGIC_NUMBER:
            raise pickle.UnpicklingError("its magic number is another")
        if (version := _plain(file)) != PROTOCOL_VERSION:
            raise pickle.UnpicklingError(f"its protocol has version {printable(str(version), 20)}")
        _plain(file)  # the sizes of C types
        root = _Unpickler(file, reopen, storages).load()
        keys = _plain(file)
        if type(keys) is not list or not all(type(key) is str for key in keys):
            raise pickle.UnpicklingError("its header is malformed")
        empty = storages.declared.keys() - set(keys)
        if empty:
            raise EmptyStorageError(f"storage {printable(min(empty))} has no data")
        storages.find(file, keys)
    return root


FORMAT: Final = Format("torch-legacy", _recognizes, read, written_back, suffixes=(".bin", ".ckpt", ".pt", ".pth"))


def _plain(file: BinaryIO) -> object:
    """One of the plain values: magic number, version, sizes of C types, keys."""
    value = RestrictedUnpickler(file).load()
    if type(value) not in (int, dict, list):
        raise pickle.UnpicklingError("its header is malformed")
    return value


class _Unpickler(TensorUnpickler):
    def __init__(self, file: BinaryIO, reopen: Callable[[], BinaryIO], storages: _Storages) -> None:
        super().__init__(file, reopen=reopen)
        self._storages = storages
        self._by_key: dict[str, Storage] = {}

    def _referred(self, tag: object, kind: object, key: Any, location: object, *rest: Any) -> object:
        found = super()._referred(tag, kind, key, location, *rest)
        if isinstance(found, StandIn) and tag == "storage" and is_short(key) and rest and is_count(rest[0]):
            # No layer has numbers of this type. The data of the next storage begins after them.
            self._storages.admit(key, torch.uint8, rest[0])
        return found

    def storage(self, key: str, dtype: torch.dtype, nbytes: int) -> Storage:
        """The storage of that key, as its first tensor declares it. A storage without numbers may have any type."""
        self._storages.admit(key, dtype, nbytes)
        known = self._by_key.get(key)
        if known is None or (not known.nbytes and known.dtype != dtype):
            held = nbytes if known is None else 0
            known = Storage(dtype, held, partial(self._storages.read, key), partial(self._storages.locate, key))
            self._by_key.setdefault(key, known)
        return known


class _Storages:
    """The numbers behind the pickles. What the pickle declares must fit into the file."""

    def __init__(self, reopen: Callable[[], BinaryIO], size: int, path: Path | None) -> None:
        self._reopen, self._path = reopen, path
        self._size = self._left = size
        self._starts: dict[str, int] = {}
        self._loaded: dict[str, UntypedStorage] = {}
        self.declared: dict[str, tuple[torch.dtype, int]] = {}
        """The type and the number of bytes, by key."""

    def admit(self, key: str, dtype: torch.dtype, nbytes: int) -> None:
        """Note a storage, unless the file cannot hold it."""
        if key in self.declared:
            return
        if nbytes > self._left:
            raise pickle.UnpicklingError(f"a storage of {nbytes} bytes, and the file has {self._left} for it")
        self.declared[key] = dtype, nbytes
        self._left -= nbytes

    def find(self, file: BinaryIO, keys: list[str]) -> None:
        """Find the data of each storage behind the pickles, in the order of ``keys``."""
        end = self._size
        for key in keys:
            if key not in self.declared:
                raise pickle.UnpicklingError(f"storage {printable(key, 60)} is listed, and no tensor uses it")
            dtype, nbytes = self.declared[key]
            count = int.from_bytes(file.read(COUNT_BYTES), "little")
            start = file.tell()
            if start + nbytes > end:
                raise pickle.UnpicklingError(f"it is cut short: {nbytes} bytes expected, {end - start} left")
            if count * dtype.itemsize != nbytes:
                raise pickle.UnpicklingError(
                    f"storage {printable(key, 60)} has {count} numbers, expected {nbytes // dtype.itemsize}"
                )
            self._starts[key] = start
            file.seek(start + nbytes)

    def read(self, key: str) -> UntypedStorage:
        """The numbers of a storage, in memory."""
        if key not in self._loaded:
            dtype, nbytes = self.declared[key]
            data = UntypedStorage(nbytes)
            view = torch.empty(0, dtype=torch.uint8).set_(data).numpy()
            with self._reopen() as file:
                file.seek(self._starts[key])
                if nbytes and file.readinto(view.data) != nbytes:  # type: ignore[attr-defined]  # every file has it
                    raise pickle.UnpicklingError(f"it is cut short: {nbytes} bytes expected")
            if sys.byteorder != "little":
                data.byteswap(dtype)
            self._loaded[key] = data
        return self._loaded[key]

    def locate(self, key: str) -> Location | str:
        """Where the numbers of a storage lie in the file."""
        if self._path is None:
            return "the torch file lies within a pickle: save the model with torch.save"
        dtype, nbytes = self.declared[key]
        shape = (nbytes // dtype.itemsize,)
        return Location(self._path, self._starts[key], shape, (1,), dtype, sys.byteorder != "little")
