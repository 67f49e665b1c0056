"""A file read as it stood at one moment, though training may write it anew meanwhile."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Final, TypeVar

from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ATTEMPTS: Final = 5

T = TypeVar("T")


def read_stable(path: str, read: Callable[[], T]) -> T:
    """What ``read`` makes of a file that was the same before and after; it is read again where it was not.

    By inode, size, and the times of modification and change: a file that is replaced has another inode, one that is
    written to another time. Anything but a regular file, of which no digest is taken, is read once.

    Raises:
        CheckpointError: the file was another after each attempt; or of ``read``, for a file that stood still.
        OSError: of ``read``.
    """
    for _ in range(MAX_ATTEMPTS):
        before = _state(path)
        try:
            result = read()
        except (CheckpointError, OSError):
            if _state(path) == before:
                raise
            continue  # what was cut short may be whole now
        if _state(path) == before:
            return result
    raise CheckpointError(f"{path}: it changes while it is read, {MAX_ATTEMPTS} times now; wait until it is written")


def _state(path: str) -> tuple[int, ...] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
