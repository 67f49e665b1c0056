"""The checksums that zip archives keep over their members, in members that were changed in place."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.checkpoint.location import Seal
from rnndiag.files.zip import Part

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

CHUNK: Final = 8 << 20
"""Bytes of a file in memory at once."""

_LISTED = struct.Struct("<4s6H3L5H2L")
"""An entry of the list of members: ..., lengths of name, extra field and comment, ..., offset of the local header."""
_LENGTHS = slice(10, 13)
_LOCAL: Final = 30
"""Bytes of a local header, at whose end are the lengths of"""
_NAME_AND_EXTRA = struct.Struct("<2H")
_FLAGS, _CRC, _CRC_LISTED = 6, 14, 16
"""Where the flags and the CRC-32 are in a local header, and the CRC-32 in the list."""
_CRC_FOLLOWS: Final = 0x08
_RECORD: Final = b"PK\x07\x08"
"""What may stand before a CRC-32 that follows the bytes."""


def seal_of(file: pathlib.Path, member: zipfile.ZipInfo) -> Seal:
    """Where a stored member of a file's own archive lies."""
    with file.open("rb") as stream:
        name, extra = _NAME_AND_EXTRA.unpack(_read(stream, member.header_offset + _LOCAL - 4, 4))
        size = stream.seek(0, io.SEEK_END)
    start = member.header_offset + _LOCAL + name + extra
    return Seal(start, member.file_size, member.header_offset, 0, size)


def reseal(file: pathlib.Path, seals: Iterable[Seal]) -> None:
    """Bring the checksums over changed members up to date, those of members in members first."""
    for each in sorted(seals, key=lambda seal: seal.size):
        with file.open("r+b") as stream:
            content = _digest(stream, each).to_bytes(4, "little")
            for at in checksums(file, each):
                stream.seek(at)
                stream.write(content)


def checksums(file: pathlib.Path, member: Seal) -> list[int]:
    """Where in the file the CRC-32 of a member is kept: in the list of members, and before or after its bytes."""
    with Part(file, member.archive, member.end - member.archive) as part, zipfile.ZipFile(part) as archive:
        at = member.archive + archive.start_dir
        before = [each.header_offset + member.archive for each in archive.infolist()].index(member.header)
    with file.open("rb") as stream:
        for _ in range(before):
            at += _LISTED.size + sum(_LISTED.unpack(_read(stream, at, _LISTED.size))[_LENGTHS])
        places = [at + _CRC_LISTED]
        old = _read(stream, at + _CRC_LISTED, 4)
        follows = _read(stream, member.header + _FLAGS, 1)[0] & _CRC_FOLLOWS
        after = member.start + member.size
        after += len(_RECORD) if _read(stream, after, 4) == _RECORD else 0
        if not follows or _read(stream, member.header + _CRC, 4) == old:
            places.append(member.header + _CRC)
        if follows and _read(stream, after, 4) == old:
            places.append(after)
    return places


def _digest(stream: BinaryIO, member: Seal) -> int:
    stream.seek(member.start)
    digest, left = 0, member.size
    while left and (chunk := stream.read(min(CHUNK, left))):
        digest = zlib.crc32(chunk, digest)
        left -= len(chunk)
    return digest


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)
