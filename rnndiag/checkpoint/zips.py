"""Zip archives from strangers: the list of members, within bounds."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.text import printable
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE: Final = b"PK\x03\x04"
MAX_DIRECTORY: Final = 16 * 2**20
"""Bytes of the list of members, some 80 a tensor; each member becomes objects ten times as large."""


def members(path: Path) -> tuple[zipfile.ZipInfo, ...]:
    """The members of an archive, in its order.

    Raises:
        CheckpointError: the list is missing, damaged, or larger than any model's; a member is encrypted, lies
            outside the file, or shares its name with another.
    """
    listed, size = _listed(path), path.stat().st_size
    for member in listed:
        problem = _problem(member, size)
        if problem:
            raise CheckpointError(
                f"{path}: member {printable(member.filename)} {problem}; no writer of models makes such"
            )
    if len({member.filename.casefold() for member in listed}) < len(listed):
        raise CheckpointError(f"{path}: two members have the same name; writers of models use each once")
    return tuple(listed)


def _listed(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with _Sparing(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
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
