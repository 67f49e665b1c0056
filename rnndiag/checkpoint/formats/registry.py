"""The registry of formats, and the reading of a file or folder by the format that recognizes it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import Unusable
from rnndiag.checkpoint.formats import (
    distributed,
    huggingface,
    keras,
    msgpack,
    numpy,
    onnx,
    plain_pickle,
    safetensors,
    sharded,
    torch_export,
    torch_legacy,
    torch_zip,
    torchscript,
)
from rnndiag.checkpoint.formats.base import EXPECTED, Candidate, Format
from rnndiag.checkpoint.formats.unknown import describe
from rnndiag.checkpoint.formats.unread import unread_format
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import ExhaustedError, WorkBudget
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from rnndiag.checkpoint.contents import Contents, Leaf, StoredTensor

FORMATS: Final[tuple[Format, ...]] = (
    torch_zip.FORMAT,
    torch_legacy.FORMAT,
    torchscript.FORMAT,
    torch_export.FORMAT,
    safetensors.FORMAT,
    sharded.FORMAT,
    huggingface.FORMAT,
    distributed.FORMAT,
    numpy.NPZ,
    numpy.NPY,
    keras.ARCHIVE,
    keras.HDF5,
    onnx.FORMAT,
    plain_pickle.FORMAT,
    msgpack.FORMAT,
)
"""A new format is a file with a ``Format`` in it, and its entry here. The first that recognizes a file reads it."""


SUFFIXES: Final = tuple(sorted({suffix for each in FORMATS for suffix in each.suffixes}))
"""The usual ends of the names of models."""


def identify(candidate: Candidate) -> Format | None:
    """The format of a file or folder, by its content; None if no format recognizes it.

    Raises:
        CheckpointError: a zip archive whose list of members is damaged.
        OSError: it cannot be read.
    """
    return next((each for each in FORMATS if each.recognizes(candidate)), None)


def format_of(path: Path) -> Format:
    """The format of a model.

    Raises:
        CheckpointError: no format recognizes it; the message says what it seems to be.
        OSError: it is not there, or cannot be read.
    """
    candidate = Candidate(path)
    known = identify(candidate)
    if known is None:
        unread = unread_format(candidate)
        raise CheckpointError(f"{path}: {describe(candidate) + f'; {EXPECTED}' if unread is None else unread.refusal}")
    return known


def is_model(path: Path) -> bool:
    """Whether a format recognizes a file or folder.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    candidate = Candidate(path)
    try:
        return identify(candidate) is not None
    except CheckpointError:  # damaged: reading it says how
        return False


def parts(path: Path) -> Iterator[Path]:
    """The other files that the model at a path may consist of; none for what is not a model.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    try:
        known = format_of(path)
    except CheckpointError:
        return
    yield from known.parts(path)


def read(path: Path, known: Format | None = None, budget: WorkBudget | None = None) -> tuple[str, Contents]:
    """The name of a file's format, and what the file holds; nothing that the file describes is executed.

    Args:
        path: a file or folder.
        known: its format, if it was identified before.
        budget: the work that the file may cause; None: as much as one model may cause.

    Raises:
        CheckpointError: the file is refused or damaged, here or when one of its tensors is read.
        OSError: it is not there, or cannot be read.
    """
    budget = budget or WorkBudget()
    known = known or format_of(path)
    with one_line(path, known.name), budget:
        contents = known.read(path)

    def guarded(leaf: Leaf) -> Leaf:
        if isinstance(leaf, Unusable):
            return leaf
        return replace(leaf, read=partial(_read_guarded, path, known.name, leaf, budget))

    containers = tuple(replace(c, tensors={k: guarded(v) for k, v in c.tensors.items()}) for c in contents.containers)
    return known.name, replace(contents, containers=containers)


@contextmanager
def one_line(path: Path, name: str) -> Iterator[None]:
    """Make a refusal of whatever damage brings out.

    It shows up as almost any exception, from struct.error and KeyError to torch's RuntimeError, and a file must
    never look like a bug in rnndiag.
    """
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except ExhaustedError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as {name}: {reason}; the file is damaged or was made by"
            " other means: copy it again or save it again"
        ) from error


def _read_guarded(path: Path, name: str, leaf: StoredTensor, budget: WorkBudget) -> Tensor | Unusable:
    """Read a tensor of a file, long after the file was opened."""
    try:
        with one_line(path, name), budget:
            return leaf.read()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
