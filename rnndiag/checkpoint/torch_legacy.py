"""Files that ``torch.save`` wrote before PyTorch 1.6: five pickles in a row, then the storages."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.checkpoint.inert import InertPickle, load_inertly
from rnndiag.checkpoint.reader import Candidate, Reader
from rnndiag.checkpoint.text import printable
from rnndiag.checkpoint.tree import walk
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
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
        CheckpointError: a storage that the pickle uses and the file does not fill.
    """
    size = path.stat().st_size
    storages = _Storages(size)
    pickles = InertPickle(storages.admit)
    with path.open("rb") as file:
        loaded = load_inertly(path, pickles, _without_descriptor(file))
    empty = storages.sizes.keys() - set(pickles.storage_keys)
    if empty:
        raise CheckpointError(f"{path}: storage {printable(min(empty))} has no data: save the file again")
    return walk(loaded, size)


READER: Final = Reader("torch-legacy", _accepts, read)


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


def _without_descriptor(file: BinaryIO) -> BinaryIO:
    """The same file without ``fileno``, by which torch.load would try it as a tar archive first."""
    methods = ("read", "readinto", "readline", "seek", "tell")
    return SimpleNamespace(**{name: getattr(file, name) for name in methods})  # type: ignore[return-value]
