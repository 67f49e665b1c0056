"""A user's own array: ``.npy``, ``.npz`` with one array, or one tensor saved by ``torch.save``."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rnndiag.cells.layer import Layout
from rnndiag.checkpoint.contents import Contents, Unusable, value_of
from rnndiag.checkpoint.formats.base import Candidate
from rnndiag.checkpoint.formats.numpy import check_member, is_npz
from rnndiag.checkpoint.load import read_contents
from rnndiag.errors import CheckpointError, ProbeError, UnreadableError
from rnndiag.files.npy import SIGNATURE, Header, read_header, read_leading
from rnndiag.files.text import listing, shape_of
from rnndiag.printable import printable
from rnndiag.probes import check_fits, check_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ARRAY_BYTES = 1 << 30
"""Of an array unpacked from an archive, which may declare any size."""


@dataclass(frozen=True, slots=True)
class Used:
    """The part of an array that a probe uses."""

    length: int | None = None
    """the number of steps; None: all"""
    batch: int | None = None
    """the number of sequences; None: all"""
    layout: Layout | None = None
    """the order of the axes; None: ``[B, T, D]`` is assumed"""

    def of(self, path: Path, header: Header) -> tuple[int, ...]:
        """How much of an array is used along each axis; checked before any of it is read.

        Raises:
            ProbeError: the array is smaller than requested, its numbers are not real, or it does not fit into memory.
        """
        if header.dtype.kind == "c":
            raise ProbeError(f"{path}: expected real numbers, got an array of {header.dtype}")
        shape = header.shape
        if len(shape) not in (2, 3) or 0 in shape:
            raise ProbeError(f"{path}: expected an array [T, D] or [B, T, D], got shape {shape_of(shape)}")
        check_lengths(shape, self.length, self.batch, str(path), self.layout)
        asked = [self.length] if len(shape) == 2 else [self.batch, self.length]
        if self.layout == "TBD":
            asked.reverse()
        used = (*(there if n is None else max(n, 1) for n, there in zip(asked, shape, strict=False)), shape[-1])
        check_fits(math.prod(used), str(path))
        return used


ALL = Used()
"""The whole array."""


def read_array(path: str | Path, used: Used = ALL) -> Tensor:
    """The array in a file, in a dtype of real numbers; nothing in the file is executed.

    Of a ``.npy`` or ``.npz`` file only the used steps and sequences are read.

    Raises:
        ProbeError: a file that cannot be read, holds no array or several, or numbers that are not real.
    """
    path = Path(path)
    try:
        candidate = Candidate(path)
        if candidate.head.startswith(SIGNATURE):
            array = _from_npy(path, candidate.size, used)
        elif is_npz(candidate):
            array = _from_npz(path, candidate.members, used)
        else:
            return _only_tensor(path, read_contents(path))
    except CheckpointError as error:
        raise ProbeError(f"{error} (expected a .npy, .npz or .pt file with one array)") from error
    except (OSError, EOFError, MemoryError, UnreadableError, zipfile.BadZipFile, zlib.error) as error:
        reason = printable(str(error).partition("\n")[0], 120)
        raise ProbeError(
            f"{path}: expected a .npy, .npz or .pt file with one array, got one that is broken ({reason})"
        ) from error
    if array.dtype.kind not in "fiub":
        raise ProbeError(f"{path}: expected real numbers, got an array of {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _from_npy(path: Path, size: int, used: Used) -> np.ndarray:
    with path.open("rb") as file:
        header = read_header(file)
        if header.start + header.nbytes > size:
            raise UnreadableError(f"{header} takes {header.nbytes} bytes, the file has {size - header.start}")
        shape = used.of(path, header)
        file.seek(header.start)
        return read_leading(file, header, shape)


def _from_npz(path: Path, members: Sequence[zipfile.ZipInfo], used: Used) -> np.ndarray:
    if len(members) != 1:
        held = listing([printable(member.filename.removesuffix(".npy"), 60) for member in members])
        raise ProbeError(f"{path}: expected one array, got {len(members)} ({held}); save the one to use as .npy")
    (member,) = members
    if member.file_size > MAX_ARRAY_BYTES:
        raise ProbeError(f"{path}: its array unpacks to {member.file_size} bytes, expected at most {MAX_ARRAY_BYTES}")
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        header = read_header(stream)
        check_member(member, header)
        shape = used.of(path, header)
        stream.seek(header.start)
        return read_leading(stream, header, shape)


def _only_tensor(path: Path, contents: Contents) -> Tensor:
    tensors = [leaf for container in contents.containers for leaf in container.tensors.values()]
    if len(tensors) != 1:
        raise ProbeError(f"{path}: expected a file with one tensor [T, D] or [B, T, D], got {len(tensors)} tensors")
    (leaf,) = tensors
    value = value_of(leaf)
    if isinstance(value, Unusable):
        raise ProbeError(f"{path}: its tensor cannot be used: {value.reason}")
    return value
