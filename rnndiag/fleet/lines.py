"""JSON lines: one result per line, appended as each model finishes, and continued by a later run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rnndiag.errors import OutputError, SettingsError
from rnndiag.files.atomic import write_all
from rnndiag.files.descriptors import descriptor_of
from rnndiag.files.side_files import MAX_REPORTS_BYTES, is_regular, mebibytes, open_regular
from rnndiag.fleet.job import Failure
from rnndiag.printable import json_escaped
from rnndiag.process.cleanup import temporary_file
from rnndiag.report import Report, decoded, from_json, to_builtins

if TYPE_CHECKING:
    from typing import BinaryIO


_BEGINS = b'{"path": "'
"""The first bytes of a file of results, even if its first line is incomplete."""

PIECE = 1 << 20
"""Bytes that are copied at once."""

# On Windows the system would otherwise write two bytes for each end of a line.
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class _LineHead(msgspec.Struct):
    """The members of a line that decide whether it is kept; the other members are not decoded."""

    path: str
    conditions: str = ""
    error: str | None = None


def line(path: str, result: Report | Failure, conditions: str = "") -> str:
    """One result: the members of a report, or ``error``, after its path and the digest of its conditions."""
    head = {"path": path, "conditions": conditions} if conditions else {"path": path}
    members = {"error": result.message} if isinstance(result, Failure) else to_builtins(result)
    return json_escaped(json.dumps(head | members, allow_nan=False)) + "\n"  # ASCII: any file name can be written


@contextmanager
def appending(file: Path, *, fresh: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that appends a line to a file in one write; ``fresh`` empties the file first.

    Raises:
        OutputError: if the system refuses.
    """
    try:
        named = descriptor_of(file)
        if named is not None:
            descriptor = os.dup(named)
        else:
            descriptor = os.open(file, _APPENDING | (os.O_TRUNC if fresh else 0), 0o666)
    except OSError as error:
        raise OutputError(f"{file}: could not be written ({error.strerror})") from error

    def append(text: str) -> None:
        try:
            write_all(descriptor, text.encode())
        except OSError as error:
            raise OutputError(f"{file}: could not be written ({error.strerror}); --resume goes on with it") from error

    try:
        yield append
    finally:
        os.close(descriptor)


def prepare_to_continue(file: Path, conditions: str) -> None:
    """Prepare a file to be continued: afterwards it has one line for each report, and nothing else.

    An incomplete last line, errors (those models are tried again) and a second line for the same path are removed.

    Args:
        file: the file, which may be missing.
        conditions: the digest of the conditions under which its reports must have been measured.

    Raises:
        SettingsError: for a file that has other content or other conditions; the file is not changed.
        OutputError: if the system refuses.
    """
    try:
        if not os.path.lexists(file):
            return
        if not is_regular(file):
            raise SettingsError(f"--resume: {file} is not a regular file; give a JSONL file to continue")
        file = file.resolve()
        with open_regular(file, SettingsError) as old:
            kept = list(_kept_ranges(old, file, conditions))  # before anything is changed
            begins, ends = (kept[0][0], kept[-1][1]) if kept else (0, 0)
            if begins > 0 or len(kept) > 1:
                _copy(old, kept, file)
            elif ends < file.stat().st_size:
                os.truncate(file, ends)  # usually an incomplete line at the end
    except OSError as error:
        raise OutputError(f"--resume: {file} could not be read or written ({error.strerror})") from error


def stored_reports(file: Path) -> Iterator[tuple[str, Report]]:
    """The path and the report of each line of a prepared file.

    Raises:
        SettingsError: for a line that is not a report of this version.
    """
    with open_regular(file, SettingsError) as lines:
        for number, text in _numbered(lines, file):
            try:
                report = from_json(text)
            except msgspec.MsgspecError as error:
                raise SettingsError(f"--resume: line {number} of {file} is no report: {error}") from error
            yield _head(text, file, number).path, report


def _kept_ranges(old: BinaryIO, file: Path, conditions: str) -> Iterator[tuple[int, int]]:
    """The start and end of each range of adjacent lines that are kept."""
    seen: set[str] = set()
    start = end = 0
    for number, text in _numbered(old, file):
        if number == 1 and not (text.startswith(_BEGINS) or _BEGINS.startswith(text.removesuffix(b"\n"))):
            raise _not_a_result(file, number)
        head = _head(text, file, number) if text.endswith(b"\n") else None
        if head is None or head.error is not None or head.path in seen:
            if start < end:
                yield start, end
            start = end = end + len(text)
            continue
        if head.conditions != conditions:
            raise SettingsError(
                f"--resume: line {number} of {file} was measured with another probe, other options or another version "
                "of rnndiag or torch; repeat those or name another file"
            )
        seen.add(head.path)
        end += len(text)
    if start < end:
        yield start, end


def _numbered(lines: BinaryIO, file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, counted from 1, none longer than a report can be.

    Raises:
        SettingsError: for a longer line.
    """
    for number in count(1):
        text = lines.readline(MAX_REPORTS_BYTES + 1)
        if len(text) > MAX_REPORTS_BYTES:
            raise SettingsError(
                f"--resume: line {number} of {file} is longer than {mebibytes(MAX_REPORTS_BYTES)}, the limit for a "
                "result of --format jsonl; name another file"
            )
        if not text:
            return
        yield number, text


def _copy(old: BinaryIO, ranges: Iterable[tuple[int, int]], file: Path) -> None:
    """Replace the file by these ranges of it."""
    with temporary_file(file) as temporary:
        temporary.touch(0o600, exist_ok=False)
        with temporary.open("wb") as whole:
            for start, end in ranges:
                old.seek(start)
                for place in range(start, end, PIECE):
                    whole.write(old.read(min(PIECE, end - place)))
        temporary.chmod(file.stat().st_mode)
        temporary.replace(file)


def _head(text: bytes, file: Path, number: int) -> _LineHead:
    try:
        return decoded(text, _LineHead)
    except msgspec.MsgspecError:
        raise _not_a_result(file, number) from None


def _not_a_result(file: Path, number: int) -> SettingsError:
    return SettingsError(f"--resume: line {number} of {file} is not a result of --format jsonl; name another file")
