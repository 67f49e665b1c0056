"""Written whole: a file or nothing of it, and all of a text."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_whole(file: Path, content: bytes) -> None:
    """Write beside the file, then rename over it: whoever reads it sees the old content or the new.

    Raises:
        OSError: where the system refuses; an older file of that name is then untouched.
    """
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".rnndiag.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # as if opened for writing: mkstemp gives 0600
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however much the system takes at once.

    Raises:
        OSError: where the system refuses.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
