"""The paths of a command: files, directories, globs."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from rnndiag.cli.choices import Choices


class UnfoundError(CheckpointError):
    """A path that leads nowhere."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def asked_for(chosen: Choices, imported: str | None) -> tuple[str | UnfoundError, ...]:
    """The models of a command: its paths expanded, or as they are where the user's own code makes something of them.

    Raises:
        SettingsError: where no path is given and no code.
    """
    if imported is None:
        return tuple(expand(chosen.paths))
    # Paths of a config file are those of saved models, which no option asks to be handed to code.
    return tuple(chosen["paths"]) if chosen.origins["paths"] == "--paths" else ()


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
    if path == "-" or "://" in path:
        yield path
    elif Path(path).is_dir():
        from rnndiag.checkpoint.folders import SUFFIXES

        found = list(_within(path))
        if not found:
            raise CheckpointError(f"{path}: a folder in which nothing is named like a model ({', '.join(SUFFIXES)})")
        yield from found
    elif glob.has_magic(path) and not Path(path).exists():
        matched = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = list(_matched(matched))
        if not found:
            what = "nothing but folders without models" if matched else "no file"
            raise CheckpointError(f"{path}: the pattern matches {what}")
        yield from found
    else:
        yield path  # missing files are the reader's to explain


def _within(folder: str) -> Iterator[str]:
    from rnndiag.checkpoint.folders import models_in

    return (str(model) for model in models_in(Path(folder)))


def _matched(paths: Sequence[str]) -> Iterator[str]:
    """Files, and the models in folders; of a folder that is a model itself, no file beside."""
    models: set[str] = set()
    for path in paths:  # sorted: a folder comes before what is in it
        if Path(path).is_dir():
            within = list(_within(path))
            models.update(within)
            yield from within
        elif not any(str(folder) in models for folder in Path(path).parents):
            yield path
