"""Decides which files can be a config file, without importing anything expensive."""

from __future__ import annotations

import os
from pathlib import Path

from rnndiag.errors import ConfigError
from rnndiag.files.side_files import is_regular, read_bytes

NAMES = ("rnndiag.yaml", "rnndiag.yml", "pyproject.toml")
"""The names of config files, in the order of precedence within a folder."""

MAX_BYTES = 1 << 20
"""Size of a config file. A larger pyproject.toml belongs to other tools and is not read."""


def may_configure(path: Path) -> bool:
    """Whether a file of one of the ``NAMES`` may hold a config.

    All tools share pyproject.toml: one that does not mention rnndiag, is too large or is not a regular file is skipped.
    The other names belong to rnndiag: anything with such a name counts, and is an error later if it cannot be read.
    """
    try:
        if path.name != "pyproject.toml":
            return os.path.lexists(path)
        return is_regular(path) and b"rnndiag" in read_bytes(path, MAX_BYTES, ConfigError)
    except (OSError, ConfigError):
        return False
