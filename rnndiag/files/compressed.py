"""Files that are one compressed stream: their beginning, and their content within a limit."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from rnndiag.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES: Final = 1 << 20
"""How much is read, and how much is unpacked, at once."""
MAX_DICTIONARY_BYTES: Final = 128 << 20
"""The memory that an xz or lzma stream may ask for; the strongest setting of xz takes 65 MiB."""

_ZLIB_OR_GZIP: Final = 47
"""zlib's ``wbits`` for either header, which it tells apart."""

_DAMAGE: Final = (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError)


def _zlib() -> Any:
    return zlib.decompressobj(_ZLIB_OR_GZIP)


def _lzma() -> Any:
    return lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES)


_STARTS: Final[tuple[tuple[bytes, Callable[[], Any]], ...]] = (
    (b"\x1f\x8b", _zlib),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", _lzma),
    (b"\x5d\x00\x00", _lzma),  # the older form without a signature, which joblib writes as .lzma
)


def _decompressor(head: bytes) -> Any:
    """What unpacks a stream that begins like this; None for anything else."""
    for start, make in _STARTS:
        if head.startswith(start):
            return make()
    is_zlib = len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0
    return _zlib() if is_zlib else None


def is_compressed(head: bytes) -> bool:
    """Whether a file that begins like this is a compressed stream."""
    return _decompressor(head) is not None


def beginning(file: BinaryIO, size: int) -> bytes:
    """The first ``size`` bytes of the content; empty if the file is damaged.

    bzip2 packs blocks of up to 900 kB, of which nothing is known before the end.
    """
    head = file.read(CHUNK_BYTES)
    try:
        data: bytes = _decompressor(head).decompress(head, size)
    except _DAMAGE:
        return b""
    return data


def content(path: Path, limit: int) -> bytes:
    """What a compressed file unpacks to.

    Raises:
        UnreadableError: it is damaged or cut short, something follows it, or it unpacks to more than ``limit`` bytes.
    """
    parts: list[bytes] = []
    size = 0
    try:
        for part in _parts(path):
            size += len(part)
            if size > limit:
                raise UnreadableError(f"it unpacks to more than {limit >> 20} MiB, which weights of its size do not")
            parts.append(part)
    except _DAMAGE as error:
        raise UnreadableError(f"the compressed stream is damaged ({error})") from error
    return b"".join(parts)


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        decompressor = _decompressor(chunk)
        while not decompressor.eof:
            unpacked = decompressor.decompress(chunk, CHUNK_BYTES)
            yield unpacked
            # zlib gives back what it did not use; bz2 and lzma keep it.
            chunk = getattr(decompressor, "unconsumed_tail", b"")
            if not chunk and not decompressor.eof and getattr(decompressor, "needs_input", True):
                chunk = file.read(CHUNK_BYTES)
                if not chunk and not unpacked:
                    raise UnreadableError("the compressed stream is cut short")
        if decompressor.unused_data or file.read(1):
            raise UnreadableError("other data follow the compressed stream")
