"""Decides which files a command may write, for every option of every command that names a file to write.

1. No output replaces an input, with or without ``--force``.
2. A report replaces a report of rnndiag or an empty file. It replaces any other file only with ``--force``.
3. A saved model replaces another file only with ``--force``.
4. A file to continue (``--resume``) is never replaced. Its reader refuses files that rnndiag did not write.
5. Pipes, devices and descriptors such as ``/dev/stdout`` are written to directly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import UnsupportedOperation
from itertools import combinations
from pathlib import Path
from typing import Literal

from rnndiag.cli.inputs import Input, input_of, model_with
from rnndiag.cli.streams import say, write_descriptor
from rnndiag.errors import OutputError
from rnndiag.files.atomic import replace_whole
from rnndiag.files.descriptors import descriptor_of
from rnndiag.renderers.own_reports import is_own_report

REPLACE = "name another file, or replace it with --force"


@dataclass(frozen=True, slots=True)
class Destination:
    """A file that a command is to write."""

    file: Path
    option: str
    """the option that names the file"""
    kind: Literal["report", "model", "continued"] = "report"
    rewrites: Path | None = None
    """an input that it may replace: a baseline that is written again"""
    model: str | None = None
    """the model that a saved model is made from"""

    def __str__(self) -> str:
        return {"report": "the report", "model": "the model", "continued": "the file to continue"}[self.kind] + (
            f" ({self.option})"
        )


def check_destinations(
    destinations: Sequence[Destination], inputs: Sequence[Input] = (), *, force: bool, saves: bool = False
) -> None:
    """Refuse files that cannot or must not be written, before the work starts.

    Args:
        destinations: every file that the command is to write.
        inputs: every file that the command reads.
        force: ``--force``.
        saves: whether the command has ``--save``. If so, a report file named like a model is probably a mistake.

    Raises:
        OutputError: for a file that cannot be written, or must not be.
    """
    for each in destinations:
        try:
            _check_place(each)
        except OSError as error:
            raise OutputError(f"{each.file}: cannot be written ({error.strerror})") from error
    for one, other in combinations(destinations, 2):
        if same_file(one.file, other.file):
            raise OutputError(f"{one.file}: cannot hold both {one} and {other}; name two different files")
    for each in destinations:
        try:
            _check_inputs(each, inputs)
            if saves and not force and each.kind == "report":
                _check_name(each)
            check_replaceable(each, force=force, saves=saves)
        except OSError as error:
            raise OutputError(f"{each.file}: cannot be written ({error.strerror})") from error


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, existing or not."""
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except OSError:  # one of them does not exist
        return False


def is_stdout(file: Path) -> bool:
    """Whether text that is written to a file arrives on stdout."""
    if descriptor_of(file) == 1:
        return True
    try:
        return os.path.samestat(file.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, UnsupportedOperation, ValueError):  # it is not there, or stdout is not a file
        return False


def is_regular(file: Path) -> bool:
    """Whether a file is, or would become, one that is replaced as a whole.

    Raises:
        OSError: the file cannot be looked at.
    """
    return descriptor_of(file) is None and (file.is_file() or not file.exists())


def check_replaceable(destination: Destination, *, force: bool, saves: bool = False) -> None:
    """Refuse to replace an existing file that this kind of destination must not replace; called again before writing.

    Raises:
        OutputError: for such a file.
        OSError: the file cannot be looked at.
    """
    file = destination.file
    if force or destination.kind == "continued" or not is_regular(file) or not os.path.lexists(file):
        return
    if destination.rewrites is not None and same_file(file, destination.rewrites):
        return
    if destination.kind == "model":
        raise OutputError(f"{file}: exists already; name another file, or overwrite it with --force")
    if not file.exists() or not file.stat().st_size or _is_own(file):
        return
    hint = " (--save FILE writes the model)" if saves else ""
    raise OutputError(f"{file}: exists and is {_described(file)}; {REPLACE}{hint}")


def write(destination: Destination, content: bytes, *, force: bool) -> None:
    """Write a file whole or not at all; a link is followed.

    Raises:
        OutputError: if the system refuses, or if the file was created in the meantime and must not be replaced. An
            older file of that name is then unchanged.
    """
    file = destination.file
    try:
        descriptor = descriptor_of(file)
        if descriptor is not None:
            write_descriptor(descriptor, content)
        elif not is_regular(file):
            file.write_bytes(content)
        else:
            check_replaceable(destination, force=force)
            replace_whole(file.resolve(), content)
    except OSError as error:
        raise OutputError(f"{file}: could not be written ({error.strerror})") from error


def acknowledge(files: Iterable[Path], detail: str = "", *, quiet: bool) -> None:
    """One line on stderr for each file that was written; nothing for pipes, devices and with ``--quiet``."""
    sys.stdout.flush()  # the line comes after what was printed before it
    for file in files:
        if not quiet and (is_regular(file) or file.is_dir()):
            say(f"wrote {file}{detail}")


def _check_place(destination: Destination) -> None:
    file = destination.file
    descriptor = descriptor_of(file)
    if descriptor is not None:
        os.fstat(descriptor)
    elif file.is_dir() and destination.kind == "model":
        raise OutputError(f"{file}: exists already and is a folder; name another path")
    elif file.is_dir():
        raise OutputError(f"{file}: expected a file to write, got a folder; name a file")
    elif is_regular(file):
        folder = file.resolve().parent
        if not folder.is_dir():
            raise OutputError(f"{file}: the folder {folder} does not exist; make it first")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{file}: cannot be written in its folder ({folder} is not writable)")


def _check_inputs(destination: Destination, inputs: Sequence[Input]) -> None:
    file = destination.file
    if not file.exists() or (destination.rewrites is not None and same_file(file, destination.rewrites)):
        return
    found = input_of(file, inputs)
    if found is not None and destination.kind == "model" and found == destination.model:
        raise OutputError(f"{file}: is the model itself, which is never overwritten; name another file")
    if found is not None or (is_regular(file) and not _is_own(file) and model_with(file, inputs) is not None):
        raise OutputError(f"{file}: is one of the inputs, and would be overwritten; name another file")


def _check_name(destination: Destination) -> None:
    from rnndiag.checkpoint.formats.registry import SUFFIXES

    file = destination.file
    if file.name.endswith(SUFFIXES) and not file.exists():
        raise OutputError(
            f"{file}: {destination.option} writes the report, and this is the name of a model; write the model with "
            f"--save {file}, or write the report there anyway with --force"
        )


def _is_own(file: Path) -> bool:
    try:
        return is_own_report(file)
    except OSError:  # a file that cannot be read cannot be recognized as a report
        return False


def _described(file: Path) -> str:
    from rnndiag.checkpoint.formats import registry
    from rnndiag.errors import CheckpointError

    try:
        return f"a model ({registry.format_of(file).name}), not a report of rnndiag"
    except (CheckpointError, OSError):
        return "not a report of rnndiag"
