"""NumPy's files: ``.npz``, an archive of named arrays; ``.npy``, one array, of which no layer can be made."""

from __future__ import annotations

import math
import weakref
import zipfile
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from rnndiag.checkpoint.contents import MAX_NAME_CHARACTERS, Container, Contents, KeyPath, Leaf, StoredTensor, Unusable
from rnndiag.checkpoint.formats.base import Candidate, Format
from rnndiag.checkpoint.location import Location, contiguous
from rnndiag.checkpoint.model import Skipped
from rnndiag.errors import CheckpointError, UnreadableError
from rnndiag.files.npy import SIGNATURE, read_header, read_numbers
from rnndiag.files.zip import members, stored_member
from rnndiag.printable import printable

if TYPE_CHECKING:
    import pathlib

    from rnndiag.files.npy import Header

MAX_ARRAYS: Final = 10_000
"""Each costs a tenth of a millisecond before one number is read; the largest models have some thousands."""
FREE_BYTES: Final = 32 << 20
"""Bytes of arrays that any archive may unpack to, and ``MAX_RATIO`` times its size beyond. Trained weights shrink
by a tenth, nine of ten of them pruned to a quarter; zeros without end to a thousandth."""
MAX_RATIO: Final = 16

_DTYPES: Final = {2: torch.float16, 4: torch.float32, 8: torch.float64}
"""By bytes a number."""


def read_npz(path: pathlib.Path) -> Contents:
    """The arrays by dotted name (``encoder/rnn/weight_hh_l0`` is ``encoder.rnn.weight_hh_l0``), still unread.

    Raises:
        CheckpointError: an archive that NumPy does not write.
    """
    listed = members(path)
    if len(listed) > MAX_ARRAYS:
        raise CheckpointError(f"{path}: {len(listed):,} arrays; expected at most {MAX_ARRAYS:,}, more than any model's")
    room = max_unpacked_bytes(path.stat().st_size)
    held = 0
    tensors: dict[str, Leaf] = {}
    skipped: list[Skipped] = []
    with zipfile.ZipFile(path) as archive:
        for member in listed:
            name = _dotted(member.filename)
            if name in tensors or len(name) > MAX_NAME_CHARACTERS:
                fault = "its name is too long" if len(name) > MAX_NAME_CHARACTERS else "a second array of this name"
                skipped.append(Skipped(printable(name), fault))
                continue
            leaf = _leaf(path, archive, member, room - held)
            held += math.prod(leaf.shape) * leaf.dtype.itemsize if isinstance(leaf, StoredTensor) else 0
            tensors[name] = leaf
    return Contents(held, (Container(KeyPath(), tensors),), tuple(skipped))


def max_unpacked_bytes(size: int) -> int:
    """How many bytes of arrays an archive of ``size`` bytes may unpack to."""
    return FREE_BYTES + MAX_RATIO * size


def check_member(member: zipfile.ZipInfo, header: Header) -> None:
    """Hold an array's header against the archive's word on the member that it is in.

    Raises:
        UnreadableError: they contradict each other, or it is packed in a way that NumPy never uses.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableError("packed in another way than np.savez and np.savez_compressed do it")
    is_stored = member.compress_type == zipfile.ZIP_STORED
    declared = header.start + header.nbytes
    if declared != member.file_size or (is_stored and declared != member.compress_size):
        raise UnreadableError(f"its header declares {declared:,} bytes, the archive {member.file_size:,}")


def _leaf(path: pathlib.Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, room: int) -> Leaf:
    try:
        with archive.open(member) as stream:
            header = read_header(stream)
        check_member(member, header)
    # zipfile and zlib raise what they like on damage.
    except Exception as error:
        return _unusable(error)
    dtype = _DTYPES.get(header.dtype.itemsize)
    if header.dtype.kind != "f" or dtype is None:
        return Unusable(f"expected float16, float32 or float64, got {header}")
    if header.nbytes > room:
        return Unusable(
            f"it unpacks to {header.nbytes:,} bytes, and the archive to more than {MAX_RATIO} times its size:"
            " save the recurrent layers alone, with np.savez"
        )
    array = _Array(path, member, header)
    return StoredTensor(header.shape, dtype, array.read, array.locate)


class _Array:
    """An array that is still in its archive."""

    def __init__(self, path: pathlib.Path, member: zipfile.ZipInfo, header: Header) -> None:
        self._path = path
        self._member = member
        self._header = header
        self._last: weakref.ref[Tensor] | None = None

    def read(self) -> Tensor | Unusable:
        """The same tensor again while anyone holds it: a table may be read by many layers."""
        tensor = self._last() if self._last else None
        if tensor is None:
            try:
                with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as stream:
                    stream.seek(self._header.start)
                    tensor = torch.from_numpy(read_numbers(stream, self._header))
            except Exception as error:  # as above
                return _unusable(error)
            self._last = weakref.ref(tensor)
        return tensor

    def locate(self) -> Location | str:
        """Where its numbers lie in the archive, unless they are compressed."""
        header, member = self._header, self._member
        if member.compress_type != zipfile.ZIP_STORED:
            return "it is compressed in the file"
        stored = stored_member(self._path, member)
        strides = contiguous(header.shape, fortran=header.is_fortran)
        dtype, is_swapped = _DTYPES[header.dtype.itemsize], not header.dtype.isnative
        return Location(self._path, stored.start + header.start, header.shape, strides, dtype, is_swapped, (stored,))


def _unusable(error: Exception) -> Unusable:
    if isinstance(error, UnreadableError):
        return Unusable(str(error))
    return Unusable(f"damaged ({printable(' '.join(str(error).split()), 120) or type(error).__name__})")


def _dotted(name: str) -> str:
    return name.removesuffix(".npy").replace("/", ".").strip(".")


def _read_npy(path: pathlib.Path) -> Contents:
    with path.open("rb") as file:
        try:
            header = read_header(file)
        except UnreadableError as error:
            raise CheckpointError(f"{path}: {error}") from error
    raise CheckpointError(
        f"{path}: one array, {header}; expected several with their names, at least weight_ih and weight_hh:"
        " save them with np.savez(path, **arrays)"
    )


def is_npz(candidate: Candidate) -> bool:
    """Whether a zip archive holds arrays and nothing else."""
    return bool(candidate.members) and all(name.endswith(".npy") for name in candidate.names)


def _stored_instead(path: pathlib.Path) -> str:
    is_compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members(path))
    return "its arrays are compressed: save it with np.savez, without compression" if is_compressed else ""


def _is_npy(candidate: Candidate) -> bool:
    return candidate.head.startswith(SIGNATURE)


NPZ: Final = Format("npz", is_npz, read_npz, _stored_instead, suffixes=(".npz",))
NPY: Final = Format("npy", _is_npy, _read_npy, searched=lambda candidate: False)
