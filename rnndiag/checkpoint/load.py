"""The entrance: from a path to the recurrent layers of the model there."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import combined
from rnndiag.checkpoint.fetch import fetched
from rnndiag.checkpoint.formats import registry
from rnndiag.checkpoint.formats.folders import models_in
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.checkpoint.layers.find import find
from rnndiag.checkpoint.layers.hints import hint
from rnndiag.checkpoint.model import Model, Skipped, Source
from rnndiag.errors import CheckpointError, NotAModelError
from rnndiag.files.stable_read import read_stable
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    from rnndiag.checkpoint.contents import Contents
    from rnndiag.checkpoint.fetch import LocalCopy

MAX_DIGESTED_BYTES: Final = 1 << 29
"""The largest file whose digest is taken. A larger file would take longer than the measurement."""

EXPECTED_LAYERS: Final = {"Keras": "a SimpleRNN, GRU or LSTM layer"}
"""What rnndiag looks for in a model of a framework. For all other frameworks it looks for PyTorch's names."""


def load(path: str | Path, answers: Answers = NO_ANSWERS) -> Model:
    """Read the recurrent stacks of a saved model. Nothing that the file describes is executed.

    Args:
        path: a file or folder of any format in ``formats.registry.FORMATS``, a zip or tar archive of such files, a URL
            that fsspec opens, or ``-`` for stdin.
        answers: what the user says about the layers, such as their nonlinearity.

    Returns:
        At least one stack, what was skipped and why, the assumptions, and the digest of what was read.

    Raises:
        NotAModelError: the file was written next to a model and holds no weights (optimizer state, for example).
        CheckpointError: the file cannot be read, is refused, or holds no recurrent layer; the message is
            one line that begins with the path.
    """
    path = str(path)
    return read_stable(path, lambda: _loaded(path, answers))


def _loaded(path: str, answers: Answers) -> Model:
    try:
        with fetched(path) as found:
            format_, contents = _archived(found) if found.archive else registry.read(found.content, found.format)
            # Before the copies go: tensors may be mapped from them until they are found.
            findings = find(contents, answers)
            digest = file_digest(found.file)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file{_nearest(Path(path))}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if contents.auxiliary and not findings.stacks:
        raise NotAModelError(path, contents.auxiliary)
    if findings.unmatched:
        names = [printable(name, 80) for part in contents.containers for name in part.tensors]
        raise CheckpointError(f"{path}: {findings.unmatched[0]}; the file holds {listing(names, 8) or 'no tensors'}")
    if not findings.stacks:
        raise CheckpointError(
            f"{path}: {_nothing_found(findings.skipped, contents.framework)}{_mapping_to_try(contents)}"
        )
    source = Source(path, format_, digest, findings.skipped, dict(contents.progress), contents.framework)
    return Model(source, findings.stacks, (*contents.notes, *findings.notes))


def _archived(found: LocalCopy) -> tuple[str, Contents]:
    """All models of an unpacked archive as one, each under its own name in it."""
    parts: dict[str, Contents] = {}
    skipped: list[Skipped] = []
    name, format_ = "", ""
    for path in models_in(found.content):
        name = path.relative_to(found.content).as_posix()
        try:
            format_, parts[name] = registry.read(path)
        except CheckpointError as error:
            reason = str(error).removeprefix(f"{path}: ")
            skipped.append(Skipped(printable(name), reason, recurrent=True))  # it may hold a recurrent layer
    if not parts and len(skipped) == 1:
        raise CheckpointError(f"{found.content / name}: {skipped[0].reason}")
    if not parts:
        held = [printable(each.name, 60) for each in found.content.iterdir()]
        raise CheckpointError(
            f"{found.file}: a {found.archive} archive without a model: it holds {listing(held, 6) or 'no file'}"
        )
    whole = combined(parts)
    kind = f"{found.archive}/{format_}" if len(parts) == 1 else found.archive
    return kind, replace(whole, skipped=(*whole.skipped, *skipped))


def read_contents(path: str | Path) -> Contents:
    """All tensors of a saved file, recurrent or not; nothing that the file describes is executed.

    Raises:
        CheckpointError: the file cannot be read or is refused.
    """
    path = Path(path)
    try:
        return registry.read(path)[1]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def file_digest(path: Path) -> str:
    """The SHA-256 of a file; empty for a folder and for a file too large to be read whole."""
    if path.is_dir() or path.stat().st_size > MAX_DIGESTED_BYTES:
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nearest(path: Path) -> str:
    """A suggestion for a name that was perhaps mistyped."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), 1000)]
    except OSError:
        return f", nor a directory {path.parent}"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(printable(close[0]))}?" if close else ""


def _mapping_to_try(contents: Contents) -> str:
    return next((text for container in contents.containers if (text := hint(container.tensors))), "")


def _nothing_found(skipped: tuple[Skipped, ...], framework: str) -> str:
    saw = [f"{each.name} ({each.reason.removeprefix('not recurrent: ')})" for each in skipped]
    # What comes close is the likeliest answer to the user's question.
    saw.sort(key=lambda line: "(recurrent, but" not in line)
    expected = EXPECTED_LAYERS.get(
        framework, "weight_ih and weight_hh of an nn.RNN, nn.LSTM, nn.GRU or one of their cells"
    )
    return f"no recurrent layer: expected {expected}, saw {listing(saw, 6) or 'no tensors at all'}"
