"""Zip archives from strangers: the list of members, within bounds."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Final

from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer

SIGNATURE: Final = b"PK\x03\x04"
MAX_DIRECTORY: Final = 8 * 2**20
"""Bytes of the list of members, some 80 a tensor; each member becomes objects ten times as large."""


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
            size = MAX_DIRECTORY
        if size > MAX_DIRECTORY:
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
