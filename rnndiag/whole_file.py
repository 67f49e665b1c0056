"""Written whole: a file or nothing of it, and all of a text."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_whole(file: Path, content: bytes) -> None:
    """Write beside the file, then rename over it: whoever reads it sees the old content or the new.

    Raises:
        OSError: where the system refuses; an older file of that name is then untouched.
    """
    temporary = file.with_name(f".rnndiag.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:  # with the access that the umask leaves, as any new file
            stream.write(content)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however much the system takes at once.

    Raises:
        OSError: where the system refuses.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
