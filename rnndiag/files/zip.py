"""Zip archives from strangers: the list of members within bounds, where members lie, and the checksums over them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from typing_extensions import Buffer

SIGNATURE: Final = b"PK\x03\x04"
MAX_DIRECTORY_BYTES: Final = 8 * 2**20
"""Bytes of the list of members, some 80 a tensor; each member becomes objects ten times as large."""
CHUNK_BYTES: Final = 8 << 20
"""The size of the pieces in which a file is read."""

_LOCAL = struct.Struct("<4s5H3L2H")  # before each member: ..., lengths of its name and of an extra field
_LISTED = struct.Struct("<4s6H3L5H2L")  # in the list of members: ..., the same and of a comment, ..., offset of _LOCAL
_LISTED_LENGTHS = slice(10, 13)
_END = struct.Struct("<4s4H2LH")  # end of the list of members: ..., size, offset, length of comment
_END64 = struct.Struct("<4sQ2H2L4Q")  # the same with wide fields: ..., size, offset
_LOCATOR = struct.Struct("<4sLQL")  # between the two: ..., offset of the wide record, ...
_FLAGS, _CRC, _CRC_LISTED = 6, 14, 16
"""Positions of the flags and of the CRC-32 in a local header, and of the CRC-32 in an entry of the list."""
_CRC_FOLLOWS: Final = 0x08
_DESCRIPTOR: Final = b"PK\x07\x08"
"""May stand before a CRC-32 that follows the content."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A stored member of a zip archive. The archive keeps a checksum over its content."""

    start: int
    """Position in the file of its content."""
    size: int
    header: int
    """Position in the file of its local header."""
    archive: int
    """Position in the file of the archive around it."""
    end: int
    """Position in the file of the end of the archive."""


class Part(io.RawIOBase):
    """A part of a file as a file of its own, to be read only.

    Args:
        path: the whole file.
        start: where the part begins.
        size: how many bytes it has; all that follow by default.
    """

    def __init__(self, path: Path, start: int = 0, size: int | None = None) -> None:
        self._file = io.FileIO(path)
        self._start = start
        self._stop = self._file.seek(0, io.SEEK_END) if size is None else start + size
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = (self._start, self._file.tell(), self._stop)[whence]
        return self._file.seek(max(base + offset, self._start)) - self._start

    def readinto(self, buffer: Buffer, /) -> int | None:
        left = max(self._stop - self._file.tell(), 0)
        return self._file.readinto(memoryview(buffer)[:left])

    def close(self) -> None:
        self._file.close()
        super().close()


def members(path: Path, start: int = 0, size: int | None = None) -> tuple[zipfile.ZipInfo, ...]:
    """The members of an archive, in its order; of one that is part of a file, given where it lies.

    Raises:
        CheckpointError: the list is missing, damaged, or larger than any model's; a member is encrypted, lies
            outside the file, or shares its name with another.
    """
    listed = _listed(path, start, size)
    held = path.stat().st_size if size is None else size
    for member in listed:
        problem = _problem(member, held)
        if problem:
            raise CheckpointError(
                f"{path}: member {printable(member.filename)} {problem}; no writer of models makes such"
            )
    if len({member.filename.casefold() for member in listed}) < len(listed):
        raise CheckpointError(f"{path}: two members have the same name; writers of models use each once")
    return tuple(listed)


def _listed(path: Path, start: int, size: int | None) -> list[zipfile.ZipInfo]:
    try:
        with _Sparing(Part(path, start, size)) as file, zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        reason = printable(" ".join(str(error).split()), 200)
        if reason == "File is not a zip file":
            reason = "it is cut short: the list of members at its end is missing"
        raise CheckpointError(f"{path}: a zip archive that cannot be read: {reason}; copy it again") from error


class _Sparing(io.BufferedReader):
    """A file that never reads more than a list of members at once: zipfile reads the list whole before it looks."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = MAX_DIRECTORY_BYTES
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of members has {size:,} bytes, more than any model needs")
        return super().read(size)


def _problem(member: zipfile.ZipInfo, size: int) -> str:
    if member.flag_bits & 0x41:
        return "is encrypted"
    if "\0" in member.orig_filename:
        return "has a zero byte in its name"
    if member.header_offset + member.compress_size > size:
        return f"is larger than the file: {member.compress_size} bytes in {size}"
    return ""


def content_start(file: BinaryIO, member: zipfile.ZipInfo) -> int | None:
    """The position in an archive of a member's content, by the member's own header; None without such a header."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(SIGNATURE):
        return None
    *_, name_length, extra_length = _LOCAL.unpack(header)
    return int(member.header_offset + _LOCAL.size + name_length + extra_length)


def stored_member(path: Path, member: zipfile.ZipInfo) -> ZipMember:
    """Where a stored member lies in an archive that is a file of its own.

    Raises:
        CheckpointError: it is not where the list of members puts it.
    """
    with path.open("rb") as file:
        start = content_start(file, member)
        end = file.seek(0, io.SEEK_END)
    if start is None:
        raise CheckpointError(f"{path}: member {printable(member.filename)} is not where the archive's list puts it")
    return ZipMember(start, member.file_size, member.header_offset, 0, end)


def check_end(file: BinaryIO, path: Path, size: int) -> None:
    """Refuse an archive whose member list two readers might look for in different places.

    ``zipfile`` searches backwards and allows a gap, PyTorch goes by offsets: they might show different models.
    As PyTorch writes it, the list ends where the records that describe it begin.
    """
    tail_size = min(size, _END.size + _LOCATOR.size + _END64.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    end = tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise CheckpointError(f"{path}: the zip archive is cut short or followed by other data: copy it again")
    _, _, _, _, _, length, offset, comment = _END.unpack(end)
    stop = size - _END.size
    locator = tail[-_END.size - _LOCATOR.size : -_END.size]
    if locator.startswith(b"PK\x06\x07"):
        stop -= _LOCATOR.size + _END64.size
        signature, *_, length, offset = _END64.unpack(tail[: _END64.size].rjust(_END64.size, b"\0"))
        if signature != b"PK\x06\x06" or _LOCATOR.unpack(locator)[2] != stop:
            raise CheckpointError(f"{path}: the zip archive's end records contradict each other")
    if comment or offset + length != stop or length > MAX_DIRECTORY_BYTES:
        raise CheckpointError(
            f"{path}: the zip archive's member list is not where PyTorch's writer puts it:"
            f" expected {length} bytes that end at {stop}, got offset {offset}"
        )


def update_crcs(path: Path, members: Iterable[ZipMember]) -> None:
    """Bring the checksums over changed members up to date, first those of members within other members."""
    for each in sorted(members, key=lambda member: member.size):
        with path.open("r+b") as file:
            content = _crc(file, each).to_bytes(4, "little")
            for at in crc_positions(path, each):
                file.seek(at)
                file.write(content)


def crc_positions(path: Path, member: ZipMember) -> list[int]:
    """Where in the file the CRC-32 of a member is kept: in the list of members, and before or after its content."""
    with Part(path, member.archive, member.end - member.archive) as part, zipfile.ZipFile(part) as archive:
        at = member.archive + archive.start_dir
        before = [each.header_offset + member.archive for each in archive.infolist()].index(member.header)
    with path.open("rb") as file:
        for _ in range(before):
            at += _LISTED.size + sum(_LISTED.unpack(_read(file, at, _LISTED.size))[_LISTED_LENGTHS])
        positions = [at + _CRC_LISTED]
        old = _read(file, at + _CRC_LISTED, 4)
        follows = _read(file, member.header + _FLAGS, 1)[0] & _CRC_FOLLOWS
        after = member.start + member.size
        after += len(_DESCRIPTOR) if _read(file, after, 4) == _DESCRIPTOR else 0
        if not follows or _read(file, member.header + _CRC, 4) == old:
            positions.append(member.header + _CRC)
        if follows and _read(file, after, 4) == old:
            positions.append(after)
    return positions


def _crc(file: BinaryIO, member: ZipMember) -> int:
    file.seek(member.start)
    crc, left = 0, member.size
    while left and (chunk := file.read(min(CHUNK_BYTES, left))):
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
    return crc


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
