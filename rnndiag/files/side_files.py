"""Reads the small files next to the models: config files, stored reports, cache entries, logs to continue.

Anybody may have put such a file there. Three rules hold for each of these files, in this order:

1. Only regular files are opened. A pipe, a socket or a device could block forever or never end.
2. The size is compared with a limit before anything is read, and again while the file is read, because a file can grow
   and some systems report a size of 0.
3. Text is decoded as UTF-8, and an error names the line and the column.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.errors import RnndiagError

if TYPE_CHECKING:
    from typing import BinaryIO

MAX_REPORTS_BYTES = 128 << 20
"""Size of a file of reports, of a cache entry and of one line of ``--format jsonl``. One layer takes 15 kB at T = 100
and 400 kB at T = 5000."""

_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""O_NONBLOCK: if a pipe replaces the file after the check, opening it does not block."""


def is_regular(path: Path) -> bool:
    """Whether a path leads to a regular file that this process can look at."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def open_regular(path: Path, kind: type[RnndiagError]) -> Iterator[BinaryIO]:
    """Open a regular file for reading bytes.

    Args:
        path: the path of the file; links are followed.
        kind: the error to raise.

    Raises:
        RnndiagError: an error of that kind, if the file is missing, is not a regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise kind(f"{path}: expected a regular file, got {_type_of(path.stat().st_mode)}; name another file")
        with os.fdopen(os.open(path, _OPEN), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise kind(f"{path}: expected a regular file; it was replaced while it was opened")
            yield file
    except FileNotFoundError:
        raise kind(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise kind(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_bytes(path: Path, limit: int, kind: type[RnndiagError]) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        RnndiagError: of the kind given, as ``open_regular`` does, or if the file is larger.
    """
    with open_regular(path, kind) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise kind(f"{path}: expected at most {mebibytes(limit)}, got {mebibytes(max(size, len(content)))} or more")
    return content


def read_text(path: Path, limit: int, kind: type[RnndiagError]) -> str:
    """The content of such a file as text. A byte order mark is dropped.

    Raises:
        RnndiagError: of the kind given, as ``read_bytes`` does, or if the content is not UTF-8.
    """
    content = read_bytes(path, limit, kind)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        valid = content[: error.start].decode("utf-8")
        byte = f"0x{content[error.start]:02x}"
        raise kind(
            f"{path}: not UTF-8 at {position(valid, len(valid))}: unexpected byte {byte}; save the file as UTF-8"
        ) from error


def position(text: str, index: int) -> str:
    """The position of a character in a text, such as ``line 3, column 7``; both are counted from 1."""
    before = text[:index]
    return f"line {before.count(chr(10)) + 1}, column {index - before.rfind(chr(10))}"


def deep_position(text: str, levels: int) -> str:
    """The first position where brackets are nested more deeply than ``levels``; brackets within strings count too."""
    depth = deepest = place = 0
    for index, character in enumerate(text):
        if character in "[{":
            depth += 1
            if depth > deepest:
                deepest, place = depth, index
                if depth > levels:
                    break
        elif character in "]}":
            depth -= 1
    return position(text, place)


def mebibytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**20:.3g} MiB" if size < 2**30 else f"{size / 2**30:.3g} GiB"


def _type_of(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
