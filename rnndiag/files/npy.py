"""One array in NumPy's own format: its header first, its numbers only when asked for, and never a pickle."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from numpy.lib import format as npy

from rnndiag.errors import UnreadableError
from rnndiag.files.text import shape_of
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE: Final = b"\x93NUMPY"
MAX_HEADER_BYTES: Final = 16 * 2**10
"""Bytes in which a header must end; NumPy itself reads none beyond 10,000."""

OBJECTS: Final = "an object array is a pickle, which is not run: save with np.savez(**arrays)"


@dataclass(frozen=True, slots=True)
class Header:
    """What an array's header says of it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    start: int
    """Where the numbers begin, in bytes after the header's own first."""

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{shape_of(self.shape)} of {self.dtype.name}"


def read_header(stream: IO[bytes]) -> Header:
    """The header at the stream's position, of which no more than ``MAX_HEADER_BYTES`` bytes are read.

    Raises:
        UnreadableError: no header, or one of something else than plain numbers.
    """
    held = io.BytesIO(stream.read(MAX_HEADER_BYTES))
    try:
        version = npy.read_magic(held)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
            shape, is_fortran, dtype = read(held)
    # What a malformed header raises runs from SyntaxError and RecursionError to tokenize's own.
    except Exception as error:
        raise UnreadableError(f"its header is damaged ({printable(' '.join(str(error).split()), 120)})") from error
    if dtype.hasobject:
        raise UnreadableError(OBJECTS)
    if dtype.kind not in "biufc":
        kind = "a structured array" if dtype.names else f"an array of {printable(str(dtype), 60)}"
        raise UnreadableError(f"expected an array of numbers, got {kind}")
    if len(shape) > 64 or any(n < 0 for n in shape):
        raise UnreadableError("its header is damaged (no such shape)")
    return Header(shape, dtype, is_fortran, held.tell())


def read_numbers(stream: IO[bytes], header: Header) -> np.ndarray:
    """The numbers, in the machine's own byte order, from the position after the header.

    Memory of their size is taken before they are read, so the caller sees to it that the stream can hold them.

    Raises:
        UnreadableError: it holds fewer.
    """
    return read_leading(stream, header, header.shape)


def read_leading(stream: IO[bytes], header: Header, used: Sequence[int]) -> np.ndarray:
    """The first entries along each axis; only these are kept in memory.

    Args:
        stream: at the position after the header.
        header: the header of the array.
        used: the number of entries along each axis, at most as many as the array has.

    Raises:
        UnreadableError: the stream holds fewer.
    """
    # A Fortran array is a C array of the reversed shape.
    shape, wanted = (each[::-1] if header.is_fortran else each for each in (header.shape, tuple(used)))
    # After the last axis that is cut, the entries are contiguous in the file.
    cut = max((axis for axis, size in enumerate(shape) if wanted[axis] < size), default=0)
    block = math.prod(shape[cut + 1 :])
    run = (wanted[cut] if shape else 1) * block
    result = np.empty(wanted, header.dtype)
    rows = result.reshape(-1, run) if result.size else ()
    start = stream.tell()
    for row, index in zip(rows, np.ndindex(*wanted[:cut]), strict=result.size > 0):
        place = int(np.ravel_multi_index(index, shape[:cut])) if cut else 0
        stream.seek(start + place * math.prod(shape[cut:]) * header.dtype.itemsize)
        rest = memoryview(row.view(np.uint8).data)
        while rest:
            got = stream.readinto(rest)  # type: ignore[attr-defined]  # every binary reader has it
            if not got:
                raise UnreadableError(f"expected {header.nbytes} bytes of numbers, but the file ends earlier")
            rest = rest[got:]
    native = result.astype(header.dtype.newbyteorder("="), copy=False)
    return native.T if header.is_fortran else native
