"""The files of a model that is a folder, and a whole copy of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

from rnndiag.checkpoint.formats.sharded import homes
from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind: TypeAlias = Literal["file", "folder", "link"]
"""A link is one to another folder of the same tree; a link to a file counts as that file."""


def entries(path: Path) -> dict[Path, Kind]:
    """All that a folder holds, by path within it and outer folders first; of a file, itself under ``.``.

    Raises:
        CheckpointError: a part of it cannot be read, or a link leads out of it or nowhere.
    """
    return dict(_walk(path)) if path.is_dir() else {Path(): "file"}


def _walk(path: Path) -> Iterator[tuple[Path, Kind]]:
    root = path.resolve()

    def fail(error: OSError) -> NoReturn:
        name = printable(Path(error.filename or path).name)
        raise CheckpointError(f"{path}: {name} cannot be read ({error.strerror}): a copy of it would not be whole")

    for place, folders, files in os.walk(path, onerror=fail):
        within = Path(place).relative_to(path)
        for name in (*folders, *files):
            entry = Path(place) / name
            kind: Kind = "folder" if entry.is_dir() else "file"
            if entry.is_symlink():
                _check_link(path, root, entry)
                kind = "link" if entry.is_dir() else "file"
            yield within / name, kind


def _check_link(path: Path, root: Path, link: Path) -> None:
    name = printable(link.name)
    if not link.exists():
        raise CheckpointError(f"{path}: {name} is a link that leads nowhere: remove it")
    target = link.resolve()
    if not target.is_relative_to(root) and (target.is_dir() or target.parent not in homes(root)):
        raise CheckpointError(f"{path}: {name} is a link that leads out of the folder: put a copy in its place")


def copy_tree(path: Path, copy: Path) -> None:
    """All of a folder; files that its links lead to become files, as in a snapshot from the Hugging Face hub.

    Raises:
        CheckpointError: as ``entries`` does.
    """
    copy.mkdir()
    root = path.resolve()
    for within, kind in entries(path).items():
        here = copy / within
        if kind == "folder":
            here.mkdir()
        elif kind == "link":  # to its target's place in the copy, wherever the copy goes
            target = copy / (path / within).resolve().relative_to(root)
            here.symlink_to(os.path.relpath(target, here.parent), target_is_directory=True)
        else:
            shutil.copyfile(path / within, here)
