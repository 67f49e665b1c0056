"""The registry of formats, and the reading of a file or folder by whichever accepts it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import Deferred
from rnndiag.checkpoint.formats import (
    distributed,
    huggingface,
    keras,
    numpy,
    onnx,
    safetensors,
    sharded,
    torch_export,
    torch_legacy,
    torch_zip,
    torchscript,
)
from rnndiag.checkpoint.formats.base import EXPECTED, Candidate, Reader, addresses
from rnndiag.checkpoint.formats.unknown import describe
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import Allowance, ExhaustedError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from rnndiag.checkpoint.contents import Contents, Leaf, Unusable
    from rnndiag.checkpoint.location import Ledger

READERS: Final[tuple[Reader, ...]] = (
    torch_zip.READER,
    torch_legacy.READER,
    torchscript.READER,
    torch_export.READER,
    safetensors.READER,
    sharded.READER,
    huggingface.READER,
    distributed.READER,
    numpy.NPZ,
    numpy.NPY,
    keras.ARCHIVE,
    keras.HDF5,
    onnx.READER,
)
"""A new format is a file with a ``Reader`` in it, and its entry here. The first that accepts a file reads it."""


def is_model(path: Path) -> bool:
    """Whether a reader accepts a file or folder.

    Raises:
        OSError: it is not there, or may not be read.
    """
    candidate = Candidate(path)
    try:
        return any(reader.accepts(candidate) for reader in READERS)
    except CheckpointError:  # damaged: for its reader to say
        return False


def identify(path: Path) -> Reader:
    """The reader of a file or folder, by its content.

    Raises:
        CheckpointError: of no known format; the message says what it seems to be.
        OSError: it is not there, or may not be read.
    """
    candidate = Candidate(path)
    for reader in READERS:
        if reader.accepts(candidate):
            return reader
    raise CheckpointError(f"{path}: {describe(candidate)}; {EXPECTED}")


def parts(path: Path) -> Iterator[Path]:
    """The other files that the model at a path may consist of; none for what is not a model.

    Raises:
        OSError: it is not there, or may not be read.
    """
    try:
        reader = identify(path)
    except CheckpointError:
        return
    yield from reader.parts(path)


def read(path: Path) -> tuple[str, Contents]:
    """The name of a file's format, and what it holds; nothing that the file describes is executed.

    Raises:
        CheckpointError: the file is refused or damaged, here or when a tensor that was left in it is read.
        OSError: it is not there, or may not be read.
    """
    allowance = Allowance()
    reader = identify(path)
    with one_line(path, reader.format), allowance:
        contents = reader.read(path)

    def guarded(leaf: Leaf) -> Leaf:
        return (
            replace(leaf, read=partial(_deferred, path, reader.format, leaf, allowance))
            if isinstance(leaf, Deferred)
            else leaf
        )

    containers = tuple(replace(c, tensors={k: guarded(v) for k, v in c.tensors.items()}) for c in contents.containers)
    return reader.format, replace(contents, containers=containers)


def trace(path: Path, ledger: Ledger) -> Contents:
    """What a file holds, with the addresses of its numbers in their place.

    Raises:
        CheckpointError: as ``read`` does; or a changed model is not written in this format.
        OSError: it is not there, or may not be read.
    """
    reader = identify(path)
    with one_line(path, reader.format), Allowance():
        return addresses(ledger)(reader, path)


@contextmanager
def one_line(path: Path, format_: str) -> Iterator[None]:
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
            f"{path}: cannot be read as {format_}: {reason}; the file is damaged or was made by"
            " other means: copy it again or save it anew"
        ) from error


def _deferred(path: Path, format_: str, leaf: Deferred, allowance: Allowance) -> Tensor | Unusable:
    """Read a tensor that was left in the file, long after the file was opened."""
    try:
        with one_line(path, format_), allowance:
            return leaf.read()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
