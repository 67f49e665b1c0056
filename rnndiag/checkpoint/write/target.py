"""A copy of a model beside where it is to be, moved there when it is whole: a target is written well or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.checkpoint.write.folder_copy import copy_tree
from rnndiag.errors import OutputError
from rnndiag.process.cleanup import PREFIX, temporary_folder
from rnndiag.process.signals import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_target(path: Path, target: Path, *, force: bool) -> None:
    """Find out before the work what would be found out after it.

    Raises:
        OutputError: the target is the model itself, by whatever name, or is there already, and ``force`` is not set;
            it is in the model's own folder, is of another kind than the model, or has no folder to be in.
    """
    try:
        if not os.path.lexists(target):
            pass
        elif target.exists() and path.exists() and target.samefile(path):
            if not force:
                raise OutputError(f"{target}: is the model itself; name another file, or overwrite it with --force")
        elif path.is_dir():
            raise OutputError(
                f"{target}: exists already; a model that is a folder is written to a new one: name another"
            )
        elif not force:
            raise OutputError(f"{target}: exists already; name another file, or overwrite it with --force")
        elif target.exists() and not target.is_file():
            raise OutputError(f"{target}: expected a regular file to write over, got something else")
        folder = target.resolve().parent
        if path.is_dir() and (folder == path.resolve() or path.resolve() in folder.parents):
            raise OutputError(f"{target}: lies in the model's own folder; name one beside it")
        if not folder.is_dir():
            raise OutputError(f"{target}: the folder {folder} does not exist; make it first")
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror})") from error


def try_folder(target: Path) -> None:
    """Make something beside a target, which tells of rights, full disks and strange file systems alike.

    Raises:
        OutputError: the system refuses.
    """
    try:
        with temporary_folder(target.resolve().parent, PREFIX):
            pass
    except OSError as error:
        raise OutputError(f"{target}: cannot be written in its folder ({error.strerror or error})") from error


@contextmanager
def copied(path: Path, target: Path, *, force: bool) -> Iterator[Path]:
    """A copy of the model, to be changed; afterwards it is at the target, or gone if an exception came out.

    Raises:
        OutputError: the system refuses, or ``check_target`` does.
        CheckpointError: the model is a folder that cannot be copied whole.
    """
    check_target(path, target, force=force)
    final = target.resolve()
    try:
        with temporary_folder(final.parent, PREFIX) as folder:
            copy = folder / final.name  # some formats are known by their names
            if path.is_dir():
                copy_tree(path, copy)
            else:
                shutil.copyfile(path, copy)
            yield copy
            check_target(path, target, force=force)  # again: this may have taken long
            if path.is_dir() and final.exists():
                _replace_files(copy, final)
            else:
                copy.replace(final)
    except OSError as error:
        raise OutputError(f"{target}: could not be written ({error.strerror or error})") from error


def _replace_files(copy: Path, final: Path) -> None:
    files = sorted(file for file in copy.rglob("*") if file.is_file())
    with atomic():  # a signal between two renames would leave a mixture of two models
        for file in files:
            file.replace(final / file.relative_to(copy))
