"""Archives whose members are compressed: those that change are packed anew, the others stay as they lie.

Only what a reader let through is ever unpacked: an archive may hold members beside, of any size.
"""

from __future__ import annotations

import zipfile
from copy import copy as duplicate
from typing import TYPE_CHECKING, Final

import numpy as np

from rnndiag.checkpoint.write.zip_checksums import CHUNK
from rnndiag.errors import CheckpointError
from rnndiag.files.zip import Part

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Sequence

    from rnndiag.checkpoint.write.patch import Patch

HEADER: Final = 30
"""Bytes of a member's own header, without its name."""
_KEPT: Final = ("compress_type", "comment", "extra", "create_system", "external_attr", "date_time", "file_size")
"""Of every member."""
_PACKED: Final = ("CRC", "compress_size", "flag_bits")
"""Of those that do not change, besides."""


class Unpacked:
    """The contents of members, the last one kept: a layer's parameters often are one member."""

    def __init__(self) -> None:
        self._last: tuple[pathlib.Path, str, np.ndarray] | None = None

    def of(self, file: pathlib.Path, member: str) -> np.ndarray:
        """The content of a member of an archive, as bytes."""
        if self._last is None or self._last[:2] != (file, member):
            with zipfile.ZipFile(file) as archive:
                self._last = file, member, _content(archive, member)
        return self._last[2]


def repack(parts: Sequence[Patch], copy: pathlib.Path) -> None:
    """Put the patches of compressed members into a copy of their archive."""
    packed = copy.with_name(f"{copy.name}.packed")
    with zipfile.ZipFile(copy) as old, zipfile.ZipFile(packed, "w") as new:
        new.comment = old.comment
        extents = _extents(old)
        for member in old.infolist():
            changes = _changes(parts, member)
            fresh = duplicate(member)  # where and how it is written is noted in it
            if not changes:
                _keep(copy, extents[member.filename], new, fresh)
                continue
            content = _patched(old, member, changes)
            with new.open(fresh, "w") as sink:
                sink.write(content.data)
            fresh.external_attr = member.external_attr  # zipfile gives rights to a member that has none
    packed.replace(copy)


def _keep(file: pathlib.Path, extent: tuple[int, int], new: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Add a member as it lies in another archive, which zipfile does not offer."""
    assert new.fp is not None  # it is open
    new.fp.seek(new.start_dir)
    member.header_offset = new.start_dir
    for chunk in _chunks(file, extent):
        new.fp.write(chunk)
    new.start_dir = new.fp.tell()
    new.filelist.append(member)
    new.NameToInfo[member.filename] = member


def members_differ(parts: Sequence[Patch], original: pathlib.Path, copy: pathlib.Path) -> bool:
    """Whether two archives differ in more than the patched numbers."""
    with zipfile.ZipFile(original) as one, zipfile.ZipFile(copy) as other:
        if one.namelist() != other.namelist() or one.comment != other.comment:
            return True
        before, after = _extents(one), _extents(other)
        for old, new in zip(one.infolist(), other.infolist(), strict=True):
            changes = _changes(parts, old)
            kept = _KEPT if changes else _KEPT + _PACKED
            if any(getattr(old, name) != getattr(new, name) for name in kept):
                return True
            if changes:
                if not np.array_equal(_patched(one, old, changes), _content(other, new.filename)):
                    return True
            elif _bytes_differ(original, before[old.filename], copy, after[new.filename]):
                return True
    return False


def _bytes_differ(one: pathlib.Path, here: tuple[int, int], other: pathlib.Path, there: tuple[int, int]) -> bool:
    if here[1] - here[0] != there[1] - there[0]:
        return True
    return any(a != b for a, b in zip(_chunks(one, here), _chunks(other, there), strict=True))


def _changes(parts: Sequence[Patch], member: zipfile.ZipInfo) -> list[Patch]:
    return [part for part in parts if part.packed == member.filename]


def _patched(archive: zipfile.ZipFile, member: zipfile.ZipInfo, changes: Sequence[Patch]) -> np.ndarray:
    content = _content(archive, member.filename)
    for each in changes:
        each.put(content)
    return content


def _content(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """The bytes of a member, once in memory; its checksum is held."""
    content = np.empty(archive.getinfo(member).file_size, np.uint8)
    filled = 0
    with archive.open(member) as stream:
        while chunk := stream.read(CHUNK):
            content[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            filled += len(chunk)
    if filled != len(content):
        raise CheckpointError(f"{archive.filename}: member {member} is cut short: copy it again")
    return content


def _extents(archive: zipfile.ZipFile) -> dict[str, tuple[int, int]]:
    """Where each member lies, from its own header to the next one's, or to the list of members."""
    in_order = sorted(archive.infolist(), key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in in_order[1:]), archive.start_dir]
    for member, end in zip(in_order, ends, strict=True):
        if member.header_offset + HEADER + member.compress_size > end:
            raise CheckpointError(f"{archive.filename}: two of its members overlap; no writer of models makes such")
    return {member.filename: (member.header_offset, end) for member, end in zip(in_order, ends, strict=True)}


def _chunks(file: pathlib.Path, extent: tuple[int, int]) -> Iterator[bytes]:
    start, end = extent
    with Part(file, start, end - start) as part:
        while chunk := part.read(CHUNK):
            yield chunk
