"""Saved models: from the bytes of a file to recurrent layers, without running anything in it.

A reader per format (``READERS``) turns a file into named tensors; ``find`` turns those into stacks.
"""

from __future__ import annotations

import difflib
import hashlib
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint import torch_legacy, torch_zip
from rnndiag.checkpoint.contents import HEAD, Contents, Reader
from rnndiag.checkpoint.find import find
from rnndiag.checkpoint.foreign import describe
from rnndiag.checkpoint.model import Model, Skipped, Source
from rnndiag.checkpoint.text import listing, printable
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from rnndiag.checkpoint.contents import Nonlinearity

__all__ = ["Model", "Skipped", "Source", "load", "read_contents"]

READERS: Final[tuple[Reader, ...]] = (torch_zip.READER, torch_legacy.READER)
"""A new format is a file with a ``Reader`` in it, and its entry here."""


def load(path: str | Path, *, nonlinearity: Nonlinearity | None = None) -> Model:
    """Read the recurrent stacks of a saved model. Nothing that the file describes is executed.

    Args:
        path: a file written by ``torch.save``: a state_dict, a training checkpoint, or a pickled module.
        nonlinearity: that of plain recurrent layers, for which a state_dict does not tell tanh from relu.

    Returns:
        At least one stack, what was passed over and why, and the assumptions made.

    Raises:
        CheckpointError: the file cannot be read, is refused, or holds no recurrent layer; the message is
            one line that begins with the path.
    """
    path = Path(path)
    reader, digest, contents = _read(path)
    findings = find(contents, nonlinearity)
    if not findings.stacks:
        raise CheckpointError(f"{path}: {_nothing_found(findings.skipped)}")
    source = Source(str(path), reader.format, digest, findings.skipped)
    return Model(source, findings.stacks, findings.notes)


def read_contents(path: str | Path) -> Contents:
    """All tensors of a saved file, recurrent or not; nothing that the file describes is executed.

    Raises:
        CheckpointError: the file cannot be read or is refused.
    """
    return _read(Path(path))[2]


def _read(path: Path) -> tuple[Reader, str, Contents]:
    """The reader that accepts the file, the file's SHA-256, and its contents."""
    try:
        reader, digest = _identify(path)
        return reader, digest, reader.read(path)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file{_nearest(path)}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    # Damage shows up as almost any exception, from struct.error and KeyError to torch's RuntimeError, and
    # a file must never look like a bug in rnndiag.
    except Exception as error:
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as torch.save's format: {reason}; the file is damaged or was made by"
            " other means: copy it again or save it anew"
        ) from error


def _identify(path: Path) -> tuple[Reader, str]:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f"{path}: a directory; expected a file written by torch.save")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe could wait for ever
        raise CheckpointError(f"{path}: not a regular file; expected a file written by torch.save")
    with path.open("rb") as file:
        head = file.read(HEAD)
        for reader in READERS:
            if reader.accepts(head):
                file.seek(0)
                return reader, hashlib.file_digest(file, "sha256").hexdigest()
    raise CheckpointError(f"{path}: {describe(head, status.st_size)}; expected a file written by torch.save")


def _nearest(path: Path) -> str:
    """A suggestion for a name that was perhaps mistyped."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), 1000)]
    except OSError:
        return f", nor a directory {path.parent}"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(printable(close[0]))}?" if close else ""


def _nothing_found(skipped: tuple[Skipped, ...]) -> str:
    saw = [f"{each.name} ({each.reason.removeprefix('not recurrent: ')})" for each in skipped]
    # What comes close is the likeliest answer to the user's question.
    saw.sort(key=lambda line: "(recurrent, but" not in line)
    return (
        "no recurrent layer: expected weight_ih and weight_hh of an nn.RNN, nn.LSTM, nn.GRU or one of their"
        f" cells, saw {listing(saw, 6) or 'no tensors at all'}"
    )
