"""Written whole: a file or nothing of it, and all of a text."""

from __future__ import annotations

import os
from pathlib import Path

from rnndiag.process.cleanup import temporary_file


def replace_whole(file: Path, content: bytes) -> None:
    """Write beside the file, then rename over it: whoever reads it sees the old content or the new.

    Raises:
        OSError: where the system refuses; an older file of that name is then untouched.
    """
    with temporary_file(file) as temporary:
        with temporary.open("xb") as stream:  # with the access that the umask leaves, as any new file
            stream.write(content)
        temporary.replace(file)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however much the system takes at once.

    Raises:
        OSError: where the system refuses.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
