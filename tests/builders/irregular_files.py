"""Files that are not regular or are too large: what a reader of side files must refuse."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def not_regular(folder: Path, suffix: str = ".json") -> dict[str, Path]:
    """One path of each kind that is not a regular file; reading some of these would never end."""
    made = {kind: folder / f"{kind}{suffix}" for kind in ("pipe", "endless", "folder", "socket")}
    os.mkfifo(made["pipe"])
    made["endless"].symlink_to("/dev/zero")
    made["folder"].mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket may be short only
        listener.bind(f"socket{suffix}")
        os.chdir(here)
    return made


def huge(path: Path, limit: int, begins: bytes = b"{") -> Path:
    """A file one byte over the limit, most of which takes no space on the disk."""
    path.write_bytes(begins)
    os.truncate(path, limit + 1)
    return path
