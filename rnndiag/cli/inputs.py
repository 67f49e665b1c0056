"""The files that a command reads, none of which it may overwrite, and whether a file is one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rnndiag.cli.paths import STDIN

Input = str | Path
"""A path, a URL, or ``-`` for stdin."""


def input_of(file: Path, inputs: Sequence[Input]) -> Input | None:
    """The input that is the same file, under any path or link; None if no input is this file.

    Raises:
        OSError: the file cannot be looked at.
    """
    own = file.stat()
    # Files are compared by device and inode. Each input is examined once, because there may be a million inputs.
    for each in inputs:
        for name in _local_names(each):
            status = _status(name)
            if status is not None and os.path.samestat(status, own):
                return each
    return None


def model_with(file: Path, inputs: Sequence[Input]) -> Input | None:
    """The input model in several files that includes this file; None if there is no such input.

    Raises:
        OSError: the file cannot be looked at.
    """
    own, real = file.stat(), file.resolve()
    near: dict[str, bool] = {}
    for each in inputs:
        for name in _local_names(each):
            if name == STDIN or _status(name) is None:
                continue
            folder = name if os.path.isdir(name) else os.path.dirname(name)  # noqa: PTH112, PTH120  # a million of them
            if folder not in near:
                near[folder] = own.st_nlink > 1 or _may_hold(Path(folder), real)
            if near[folder] and _consists_of(Path(name), own):
                return each
    return None


def _local_names(given: Input) -> Iterator[str]:
    """The files on this machine that an input leads to; a chained URL of fsspec can name several files."""
    text = os.fspath(given)
    if "://" not in text or isinstance(given, Path):
        yield text
        return
    from rnndiag.checkpoint.fetch import on_this_machine

    for link in text.split("::"):
        path = on_this_machine(link)
        if path is not None:
            yield str(path)


def _status(name: str) -> os.stat_result | None:
    try:
        # Creating a Path would take longer than the stat itself.
        return os.fstat(0) if name == STDIN else os.stat(name)  # noqa: PTH116
    except (OSError, ValueError):  # it does not exist, or is not a path
        return None


def _may_hold(folder: Path, file: Path) -> bool:
    """Whether a file is in the folder of a model or in the blobs of its Hugging Face cache."""
    home = folder.resolve()
    return file.is_relative_to(home.parent.parent if home.parent.name == "snapshots" else home)


def _consists_of(model: Path, own: os.stat_result) -> bool:
    from rnndiag.checkpoint.formats import registry

    try:
        statuses = map(_status, map(str, registry.parts(model)))
        return any(status is not None and os.path.samestat(status, own) for status in statuses)
    except OSError:  # what cannot be read is not an input
        return False


def module_files(imported: str) -> Iterator[Path]:
    """The files in which the module of ``--import`` can be."""
    parts = imported.partition(":")[0].split(".")
    if all(part.isidentifier() for part in parts):
        for folder in ("", *sys.path):
            yield Path(folder, *parts).with_suffix(".py")
            yield Path(folder, *parts, "__init__.py")
