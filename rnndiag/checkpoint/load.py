"""The entrance: from a path to the recurrent layers of the model there."""

from __future__ import annotations

import difflib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.archived import read_archive
from rnndiag.checkpoint.fetch import fetched
from rnndiag.checkpoint.formats import registry
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.checkpoint.layers.find import find
from rnndiag.checkpoint.layers.hints import hint
from rnndiag.checkpoint.layers.leak import NO_LEAK
from rnndiag.checkpoint.model import Model, Skipped, Source
from rnndiag.checkpoint.unpickling.imported import ImportedNames, would_have_run
from rnndiag.checkpoint.verification import verified
from rnndiag.errors import CheckpointError, NotAModelError
from rnndiag.files.digest import sha256_of
from rnndiag.files.stable_read import read_stable
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    from rnndiag.checkpoint.contents import Contents
    from rnndiag.checkpoint.layers.find import Findings

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
        NotAModelError: the file was written next to a model and holds no weights (optimizer state, for example), or it
            is of a format that mostly holds data.
        CheckpointError: the file cannot be read, is refused, or holds no recurrent layer; the message is
            one line that begins with the path.
    """
    path = str(path)
    return read_stable(path, lambda: _loaded(path, answers))


def _loaded(path: str, answers: Answers) -> Model:
    with ImportedNames() as imported:
        try:
            model = _model(path, answers)
        except CheckpointError as error:
            # Also of a file that holds no model: a run over many files skips such a file without a word.
            harm = would_have_run(imported.names)
            if harm:
                raise CheckpointError(f"{error}; {harm}") from error
            raise
    return replace(model, source=replace(model.source, pickled_names=imported.names))


def _model(path: str, answers: Answers) -> Model:
    try:
        with fetched(path) as found:
            format_, contents = (
                read_archive(path, found) if found.archive else registry.read(found.content, found.format)
            )
            # Before the copies go: tensors may be mapped from them until they are found.
            findings = find(contents, answers)
            if answers.verify:
                findings = verified(findings, format_, found.content)
            digest = sha256_of(found.file)
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
        nothing = f"{_nothing_found(findings.skipped, contents.framework)}{_mapping_to_try(contents, findings)}"
        is_general = found.format is not None and found.format.is_general
        if is_general and not any(each.recurrent for each in findings.skipped):
            reason = "no recurrent layer in this file, whose format is mostly used for data"
            raise NotAModelError(path, reason, message=nothing, is_doubtful=True)
        raise CheckpointError(f"{path}: {nothing}")
    source = Source(path, format_, digest, findings.skipped, dict(contents.progress), contents.framework)
    return Model(source, findings.stacks, (*contents.notes, *findings.notes))


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


def _nearest(path: Path) -> str:
    """A suggestion for a name that was perhaps mistyped."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), 1000)]
    except OSError:
        return f", nor a directory {path.parent}"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(printable(close[0]))}?" if close else ""


def _mapping_to_try(contents: Contents, findings: Findings) -> str:
    if any(NO_LEAK in each.reason for each in findings.skipped):
        return ""  # the way out is another option
    return next((text for container in contents.containers if (text := hint(container.tensors))), "")


def _nothing_found(skipped: tuple[Skipped, ...], framework: str) -> str:
    # What comes close is the likeliest answer to the user's question.
    closest = sorted(skipped, key=lambda each: not each.recurrent)
    saw = [f"{each.name} ({each.reason.removeprefix('not recurrent: ')})" for each in closest]
    expected = EXPECTED_LAYERS.get(
        framework, "weight_ih and weight_hh of an nn.RNN, nn.LSTM, nn.GRU or one of their cells"
    )
    return f"no recurrent layer: expected {expected}, saw {listing(saw, 6) or 'no tensors at all'}"
