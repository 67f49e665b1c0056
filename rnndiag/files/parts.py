"""The other files of a saved model, apart from the one that the user names. No output may replace them.

A reader's ``parts`` may name more files than the reader opens, never fewer.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def no_parts(path: Path) -> Iterator[Path]:
    """Nothing: the model is one file."""
    del path
    yield from ()


def files_beneath(folder: Path) -> Iterator[Path]:
    """Every file in a folder, at any depth."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def files_mentioned(path: Path) -> Iterator[Path]:
    """The files in the folder of a model, at any depth, whose names occur in the bytes of the model.

    This covers every file that the model refers to by a path within its folder, however the path is spelled.
    """
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for each in files_beneath(path.parent):
            if content.find(os.fsencode(each.name)) >= 0:
                yield each
