"""The registry of formats, and the reading of a file or folder by whichever accepts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint import onnx, torch_legacy, torch_zip
from rnndiag.checkpoint.foreign import describe
from rnndiag.checkpoint.reader import EXPECTED, Candidate, Reader
from rnndiag.checkpoint.text import printable
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents

READERS: Final[tuple[Reader, ...]] = (torch_zip.READER, torch_legacy.READER, onnx.READER)
"""A new format is a file with a ``Reader`` in it, and its entry here. The first that accepts a file reads it."""


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


def read(path: Path) -> tuple[str, Contents]:
    """The name of a file's format, and what it holds; nothing that the file describes is executed.

    Raises:
        CheckpointError: the file is refused or damaged.
        OSError: it is not there, or may not be read.
    """
    reader = identify(path)
    try:
        return reader.format, reader.read(path)
    except (CheckpointError, OSError):
        raise
    # Damage shows up as almost any exception, from struct.error and KeyError to torch's RuntimeError, and
    # a file must never look like a bug in rnndiag.
    except Exception as error:
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as {reader.format}: {reason}; the file is damaged or was made by"
            " other means: copy it again or save it anew"
        ) from error
