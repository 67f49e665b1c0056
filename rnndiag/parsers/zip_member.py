"""Members of a zip archive from strangers: read in place where they are stored, within bounds where packed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from rnndiag.parsers.parsed import RefusedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ROOM: Final = 32 << 20
"""Bytes that any packed member may unpack to, and ``RATIO`` times the archive beyond: Keras packs none."""
RATIO: Final = 2

_LOCAL = struct.Struct("<4s5H3L2H")  # local file header: ..., length of name, length of extra field
_STEP: Final = 1 << 20


def open_member(archive: zipfile.ZipFile, name: str, size: int) -> BinaryIO:
    """A member as a stream that can be read at any place.

    Args:
        archive: whose members lie within the file and have distinct names.
        name: the member.
        size: bytes of the archive.

    Raises:
        RefusedError: it is missing, damaged, or too large beside the archive.
    """
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise RefusedError(f"an archive without {name}: copy it again or save it anew") from None
    file = cast("BinaryIO", archive.fp)
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size:
        region = _Region(file, _start(file, member), member.file_size)
        if _digest(region) != member.CRC:
            raise RefusedError(f"its {name} is damaged (another CRC-32 than when it was written): copy it again")
        return cast("BinaryIO", region)
    most = ROOM + RATIO * size
    if member.file_size > most or member.compress_type != zipfile.ZIP_DEFLATED:
        raise RefusedError(
            f"its {name} unpacks to {member.file_size:,} bytes, more than {RATIO} times the archive, or is packed"
            " otherwise than by deflation: Keras stores it as it is"
        )
    with archive.open(member) as stream:
        return io.BytesIO(stream.read(member.file_size))


class _Region(io.RawIOBase):
    """A part of a file as a file: a copy would take as much memory as the weights."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        got = cast("io.BufferedReader", self._file).readinto(view)
        self._at += got
        return got


def _start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    file.seek(member.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise RefusedError(f"its {member.filename} is not where the archive's list has it: copy it again")
    *_, name, extra = _LOCAL.unpack(header)
    return int(member.header_offset + _LOCAL.size + name + extra)


def _digest(region: _Region) -> int:
    digest = 0
    while step := region.read(_STEP):
        digest = zlib.crc32(step, digest)
    region.seek(0)
    return digest
