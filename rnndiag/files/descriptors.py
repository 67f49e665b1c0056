"""Paths that name an open descriptor of this process: ``/dev/stdout``, ``/dev/fd/3``, ``/proc/self/fd/3``."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAMED = re.compile(rf"/dev/fd/(\d+)|/proc/(?:self|thread-self|{os.getpid()})/fd/(\d+)")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
MAX_LINKS = 40
"""The largest number of links that are followed, as on Linux."""


def descriptor_of(path: Path) -> int | None:
    """The descriptor that a path names, directly or through links; None for any other path.

    Such a path is written through the descriptor. Opening it again would write from the start of a file that the
    shell opened for appending.
    """
    name = os.path.abspath(path)  # noqa: PTH100  # Path.absolute() leaves ".." in it
    for _ in range(MAX_LINKS):
        if name in _STANDARD:
            return _STANDARD[name]
        found = _NAMED.fullmatch(name)
        if found:
            return int(found[1] or found[2])
        try:
            target = os.readlink(name)  # noqa: PTH115
        except OSError:  # the name is not a link, or does not exist
            return None
        name = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120
    return None
