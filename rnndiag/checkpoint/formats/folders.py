"""The models in a folder: files by their usual names, and folders that are a model themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.formats.registry import FORMATS, is_model
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIXES: Final = tuple(sorted({suffix for each in FORMATS for suffix in each.suffixes}))
"""The ends of the names of models in a folder. A search that opened every file there could take long."""
_INDEX: Final = ".index.json"

MAX_VISITED: Final = 10_000_000
"""The largest number of files and folders that a search for one PATH visits. It is enough for a million models, each in
a folder with a few other files."""

REPORT_EVERY: Final = 10_000
"""Visited entries between two calls of ``progress``."""


class Search:
    """One search through folders, which looks at each folder once and at ``MAX_VISITED`` entries at most.

    Folders are identified by device and inode, so links can neither make the search run in circles nor yield a model
    twice.
    """

    def __init__(self, what: str, progress: Callable[[int], None] = lambda visited: None) -> None:
        self._what, self._progress = what, progress
        self.visited = 0
        self._searched: set[tuple[int, int]] = set()

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What is in a folder, in the order of the names; nothing for a folder that cannot be read.

        Raises:
            CheckpointError: beyond the limit.
        """
        held = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    held.append(entry)
                    self.visited += 1
                    if self.visited > MAX_VISITED:
                        raise CheckpointError(
                            f"{self._what}: the search stopped after {MAX_VISITED:,} files and folders; name a folder "
                            "further down, or a pattern that matches fewer"
                        )
                    if self.visited % REPORT_EVERY == 0:
                        self._progress(self.visited)
        except OSError:
            return []
        return sorted(held, key=lambda entry: entry.name)

    def models_in(self, folder: Path) -> Iterator[Path]:
        """The models under a folder, at any depth, in the order of their names; a sharded one once, by its index.

        Links to folders are not followed below the folder itself. A folder that was searched before yields nothing.

        Raises:
            CheckpointError: beyond the limit.
        """
        todo = [folder]
        while todo:
            here = todo.pop()
            if not self._is_new(here):
                continue
            entries = self.entries(os.fspath(here))
            if is_model(here):
                yield here
                continue
            folders = [entry for entry in entries if entry.is_dir()]
            files = [entry.name for entry in entries if not entry.is_dir()]
            indices = [name for name in files if name.endswith(_INDEX)]
            sharded = tuple(f"{Path(name.removesuffix(_INDEX)).stem}-" for name in indices)
            for name in files:
                if name in indices or (name.endswith(SUFFIXES) and not (sharded and name.startswith(sharded))):
                    yield here / name
            todo += [here / entry.name for entry in reversed(folders) if not entry.is_symlink()]

    def _is_new(self, folder: Path) -> bool:
        try:
            status = folder.stat()
        except OSError:  # it was deleted in the meantime
            return False
        key = status.st_dev, status.st_ino
        if key in self._searched:
            return False
        self._searched.add(key)
        return True


def models_in(folder: Path) -> Iterator[Path]:
    """The models under a folder, as ``Search.models_in`` finds them.

    Raises:
        CheckpointError: as for ``Search.models_in``.
    """
    return Search(str(folder)).models_in(folder)
