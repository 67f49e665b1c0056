"""Members of a zip archive from strangers: read in place where they are stored, within bounds where packed."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final, cast

from rnndiag.files.zip import Part, content_start
from rnndiag.parsers.parsed import RefusedError

ROOM: Final = 32 << 20
"""Bytes that any packed member may unpack to, and ``RATIO`` times the archive beyond: Keras packs none."""
RATIO: Final = 2

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
        raise RefusedError(f"an archive without {name}: copy it again or save it again") from None
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size:
        start = content_start(cast("BinaryIO", archive.fp), member)
        if start is None:
            raise RefusedError(f"its {name} is not where the archive's list has it: copy it again")
        content = Part(Path(str(archive.filename)), start, member.file_size)  # a copy would take as much memory
        if _digest(content) != member.CRC:
            raise RefusedError(f"its {name} is damaged (another CRC-32 than when it was written): copy it again")
        return cast("BinaryIO", content)
    most = ROOM + RATIO * size
    if member.file_size > most or member.compress_type != zipfile.ZIP_DEFLATED:
        raise RefusedError(
            f"its {name} unpacks to {member.file_size:,} bytes, more than {RATIO} times the archive, or is packed"
            " otherwise than by deflation: Keras stores it as it is"
        )
    with archive.open(member) as stream:
        return io.BytesIO(stream.read(member.file_size))


def _digest(content: Part) -> int:
    digest = 0
    while step := content.read(_STEP):
        digest = zlib.crc32(step, digest)
    content.seek(0)
    return digest
