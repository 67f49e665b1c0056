"""The digest of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

MAX_DIGESTED_BYTES: Final = 1 << 29
"""The largest file whose digest is taken. A larger file would take longer than the measurement."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; empty for a folder and for a file larger than ``MAX_DIGESTED_BYTES``.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    if path.is_dir() or path.stat().st_size > MAX_DIGESTED_BYTES:
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
