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
    from rnndiag.checkpoint.search import Search

STDIN = "-"
"""The PATH that stands for stdin."""


class UnfoundError(CheckpointError):
    """A path that leads nowhere, or a file that a search found and left out.

    Args:
        path: the path.
        message: one line that begins with the path.
        left_out: why a search left the file out.
    """

    def __init__(self, path: str, message: str, *, left_out: str = "") -> None:
        super().__init__(message)
        self.path, self.left_out = path, left_out


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
            if isinstance(file, UnfoundError):
                yield file
            elif file not in seen:
                seen.add(file)
                yield file


def _files(path: str) -> Iterator[str | UnfoundError]:
    if not path:
        raise CheckpointError("an empty PATH; expected a file, a folder or a pattern")
    if path == STDIN or "://" in path:
        yield path
        return
    from rnndiag.checkpoint.search import Search

    with search_progress(path) as progress:
        search = Search(path, progress)
        if Path(path).is_dir():
            found = list(_within(path, search))
            if not found:
                raise CheckpointError(f"{path}: no model in this folder, by content: {_searched(search)}")
        elif has_magic(path) and not Path(path).exists():
            matched = matching(path, search)
            found = list(_matched(matched, search))
            if not found:
                what = "only folders without models" if matched else "no file"
                raise CheckpointError(f"{path}: the pattern matches {what}")
        else:
            found = [path]  # the reader explains missing files
    yield from found
    yield from (
        UnfoundError(str(each.path), f"{each.path}: {each.reason}", left_out=each.reason) for each in search.left_out
    )


def _searched(search: Search) -> str:
    """What a search that found no model looked at."""
    left_out = [f"{each.path} was left out ({each.reason})" for each in search.left_out[:3]]
    if left_out:
        return "; ".join(left_out)
    return f"{search.visited:,} files and folders were searched; docs/formats.md lists what is read"


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
