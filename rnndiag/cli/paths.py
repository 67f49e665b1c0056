"""The paths of a command: files, directories, globs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.cli.patterns import has_magic, matching
from rnndiag.cli.progress import search_progress
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from rnndiag.checkpoint.formats.folders import Search

STDIN = "-"
"""The PATH that stands for stdin."""


class UnfoundError(CheckpointError):
    """A path that leads nowhere."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def expand(paths: Sequence[str]) -> Iterator[str | UnfoundError]:
    """Each file once, in the order given; an error in place of a path that leads nowhere.

    A folder that is no model itself stands for the models in it, at any depth.
    """
    seen: set[str] = set()
    for path in paths:
        try:
            found = list(_files(path))
        except CheckpointError as error:
            yield UnfoundError(path, str(error))
            continue
        except OSError as error:
            yield UnfoundError(path, f"{path}: cannot be read: {error.strerror}")
            continue
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


def _files(path: str) -> Iterator[str]:
    if not path:
        raise CheckpointError("an empty PATH; expected a file, a folder or a pattern")
    if path == STDIN or "://" in path:
        yield path
        return
    from rnndiag.checkpoint.formats.folders import SUFFIXES, Search

    with search_progress(path) as progress:
        if Path(path).is_dir():
            found = list(_within(path, Search(path, progress)))
            if not found:
                raise CheckpointError(f"{path}: no file in this folder has the name of a model ({', '.join(SUFFIXES)})")
        elif has_magic(path) and not Path(path).exists():
            search = Search(path, progress)
            matched = matching(path, search)
            found = list(_matched(matched, search))
            if not found:
                what = "only folders without models" if matched else "no file"
                raise CheckpointError(f"{path}: the pattern matches {what}")
        else:
            found = [path]  # the reader explains missing files
    yield from found


def _within(folder: str, search: Search) -> Iterator[str]:
    return (_as_file(str(model)) for model in search.models_in(Path(folder)))


def _matched(paths: Sequence[str], search: Search) -> Iterator[str]:
    """Files, and the models in folders; the files inside a folder that is a model itself are left out."""
    models: set[str] = set()
    for path in paths:  # sorted: a folder comes before what is in it
        if Path(path).is_dir():
            within = list(_within(path, search))
            models.update(within)
            yield from within
        elif not any(str(folder) in models for folder in Path(path).parents):
            yield _as_file(path)


def _as_file(path: str) -> str:
    """A path that was found, so that it is read as a file whatever its name: ``-`` alone would be stdin."""
    return f".{os.sep}{path}" if path == STDIN else path
