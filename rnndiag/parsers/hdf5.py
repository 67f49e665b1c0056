"""HDF5 files from strangers: what lies in the file itself. No link leads out of it, no size is taken on trust."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

import h5py
import numpy as np

from rnndiag.errors import UnreadableError
from rnndiag.parsers.parsed import BFLOAT16, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

Group: TypeAlias = h5py.Group
Dataset: TypeAlias = h5py.Dataset

MAX_MEMBERS: Final = 20_000
"""Links of one group, or texts of one attribute, that are looked at."""
MAX_TEXT: Final = 32 << 20
"""Bytes of one attribute: a model's configuration has some kilobytes a layer."""
ROOM: Final = 32 << 20
"""Bytes of arrays that any file may give, and ``RATIO`` times its size beyond; trained weights hardly shrink."""
RATIO: Final = 2

_FLOATS: Final = (2, 4, 8)
"""Bytes of float16, float32 and float64."""


class Hdf5:
    """One open file, and how much may still be read of it.

    Args:
        source: a path, or a stream that holds the file.
        size: bytes that the source has, or that the archive around it has.

    Raises:
        RefusedError: it cannot be opened as HDF5.
    """

    def __init__(self, source: Path | BinaryIO, size: int) -> None:
        try:
            self.root: Group = h5py.File(source, "r", locking=False)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise RefusedError(f"an HDF5 file that cannot be opened ({reason[:200]}): copy it again") from error
        self._size = size
        self._room = ROOM + RATIO * size

    def read(self, dataset: Dataset) -> np.ndarray:
        """All numbers of a dataset that ``check`` has passed, in the machine's own byte order.

        Raises:
            UnreadableError: damaged, or too large beside the file.
        """
        nbytes = _nbytes(dataset)
        if nbytes > self._room:
            raise UnreadableError(
                f"it unpacks to {nbytes:,} bytes, and the file to more than {RATIO} times its size:"
                " save it without compression"
            )
        self._room -= nbytes
        array = np.empty(dataset.shape, dataset.dtype)
        if array.size:
            try:
                dataset.read_direct(array)
            # h5py raises OSError, RuntimeError, ValueError and more.
            except Exception as error:
                raise UnreadableError(f"damaged ({' '.join(str(error).split())[:120]})") from error
        return array if array.dtype == BFLOAT16 else array.astype(array.dtype.newbyteorder("="), copy=False)

    def check(self, dataset: Dataset) -> None:
        """Hold a dataset's header against what the file can hold.

        Raises:
            UnreadableError: its numbers are elsewhere, of another kind, or not all there.
        """
        if dataset.external or dataset.is_virtual:
            raise UnreadableError("its numbers are in another file, which is not opened")
        if dataset.dtype != BFLOAT16 and (dataset.dtype.kind != "f" or dataset.dtype.itemsize not in _FLOATS):
            raise UnreadableError(f"expected float16, bfloat16, float32 or float64, got {dataset.dtype}")
        stored, nbytes = dataset.id.get_storage_size(), _nbytes(dataset)
        is_packed = dataset.id.get_create_plist().get_nfilters() > 0
        if stored > self._size or (stored < nbytes and not is_packed):
            raise UnreadableError(f"its shape takes {nbytes:,} bytes, it has {stored:,} in a file of {self._size:,}")
        if dataset.chunks and nbytes <= self._room and dataset.id.get_num_chunks() < _chunks(dataset):
            raise UnreadableError("not all of its numbers were written")


def child(group: Group, name: str) -> Group | Dataset | None:
    """What lies under a name in the group itself; None for a link to elsewhere, which is not followed."""
    key = name.encode(errors="surrogateescape")  # as h5py decodes names
    if not name or name == "." or b"/" in key or b"\0" in key or not group.id.links.exists(key):
        return None
    # By the link's own type: nothing is opened before it is known to lie in this file.
    if group.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return None
    found = group[key]
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def descend(group: Group, path: str) -> Group | Dataset | None:
    """What lies under a path, by hard links alone."""
    here: Group | Dataset | None = group
    for name in path.split("/"):
        if not isinstance(here, h5py.Group):
            return None
        here = child(here, name)
    return here


def subgroup(group: Group, path: str) -> Group | None:
    """The group under a path, by hard links alone."""
    found = descend(group, path)
    return found if isinstance(found, h5py.Group) else None


def names(group: Group) -> list[str]:
    """The names in a group.

    Raises:
        RefusedError: more than any model has.
    """
    if len(group) > MAX_MEMBERS:
        raise RefusedError(
            f"a group of {len(group):,} members; expected at most {MAX_MEMBERS:,}, more than any model's"
        )
    return [str(name) for name in group]


def identity(group: Group) -> int:
    """The same for a group however it is reached."""
    return int(h5py.h5o.get_info(group.id).addr)


def texts(group: Group, name: str) -> list[str]:
    """An attribute as a list of texts; empty where there is none, or something else.

    Raises:
        RefusedError: larger than any in a model.
    """
    if name not in group.attrs:
        return []
    held = group.attrs.get_id(name)
    count = math.prod(held.shape or ())
    if count > MAX_MEMBERS or count * held.dtype.itemsize > MAX_TEXT:
        raise RefusedError(f"its attribute {name} has {count:,} elements, more than any model's")
    value = group.attrs[name]
    elements = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
    decoded = [each.decode(errors="replace") if isinstance(each, bytes) else each for each in elements]
    return [each for each in decoded if isinstance(each, str)]


def _nbytes(dataset: Dataset) -> int:
    return math.prod(dataset.shape or ()) * int(dataset.dtype.itemsize)


def _chunks(dataset: Dataset) -> int:
    return math.prod(-(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True))
