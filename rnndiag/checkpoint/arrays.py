"""A user's own array: ``.npy``, ``.npz`` with one array, or one tensor saved by ``torch.save``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnndiag.checkpoint import read_contents
from rnndiag.checkpoint.contents import Contents, Unusable, value_of
from rnndiag.checkpoint.text import listing, printable
from rnndiag.errors import CheckpointError, ProbeError

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
MAX_BYTES = 1 << 30
"""Of an array unpacked from an archive, which may declare any size."""


def read_array(path: str | Path) -> Tensor:
    """The array in a file, in a dtype of real or complex numbers; nothing in the file is executed.

    Raises:
        ProbeError: a file that cannot be read, holds no array or several, or numbers that are not real.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(NPY))
        if head == NPY:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        elif head.startswith(ZIP) and _is_npz(path):
            array = _from_npz(path)
        else:
            return _only_tensor(path, read_contents(path))
    except CheckpointError as error:
        raise ProbeError(f"{error} (expected a .npy, .npz or .pt file with one array)") from error
    except (OSError, EOFError, MemoryError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = printable(str(error).partition("\n")[0], 120)
        raise ProbeError(
            f"{path}: expected a .npy, .npz or .pt file with one array, got one that is broken ({reason})"
        ) from error
    if array.dtype.kind not in "fiub":
        raise ProbeError(f"{path}: expected real numbers, got an array of {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _is_npz(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _from_npz(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if len(members) != 1:
        held = listing([printable(member.filename.removesuffix(".npy"), 60) for member in members])
        raise ProbeError(f"{path}: expected one array, got {len(members)} ({held}); save the one to use as .npy")
    if members[0].file_size > MAX_BYTES:
        raise ProbeError(f"{path}: its array unpacks to {members[0].file_size} bytes, expected at most {MAX_BYTES}")
    with np.load(path, allow_pickle=False) as arrays:
        array: np.ndarray = arrays[arrays.files[0]]
    return array


def _only_tensor(path: Path, contents: Contents) -> Tensor:
    tensors = [leaf for container in contents.containers for leaf in container.tensors.values()]
    if len(tensors) != 1:
        raise ProbeError(f"{path}: expected a file with one tensor [T, D] or [B, T, D], got {len(tensors)} tensors")
    (leaf,) = tensors
    value = value_of(leaf)
    if isinstance(value, Unusable):
        raise ProbeError(f"{path}: its tensor cannot be used: {value.reason}")
    return value
