"""The file of a sweep: every net as it is measured, so that what is done is never done again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Any, Self

import msgspec

from rnndiag.errors import OutputError, SettingsError
from rnndiag.files.side_files import is_regular, mebibytes
from rnndiag.printable import shortened
from rnndiag.report import decoded, finite
from rnndiag.sweep.axes import Condition
from rnndiag.sweep.result import NetMeasure

MAX_BYTES = 256 << 20
"""The largest size of the file of a sweep; one net takes about 300 bytes."""

_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)

FORMAT = "rnndiag sweep 1"

Key = tuple[Condition, int]
"""A condition, and the seed of a net."""

MeasuredNet = tuple[Key, NetMeasure]
"""A net by its key, and what was measured on it."""


@dataclass(slots=True)
class Log:
    """An open file of JSON lines: the conditions first, then a line a net, each appended in one write.

    A last line that is torn, by a crash or a full disk, is cut off, and its net measured again.
    """

    _descriptor: int

    @classmethod
    def open(cls, path: Path, conditions: Mapping[str, Any]) -> tuple[Self, dict[Key, NetMeasure]]:
        """Start a file, or go on with one, and what it holds.

        Args:
            path: of the file; new or empty where it is to be started.
            conditions: what must be the same for its numbers to be these.

        Raises:
            SettingsError: where the file is not one of a sweep, or of one under other conditions.
            OutputError: where the system refuses.
        """
        expected = msgspec.json.decode(_line({"format": FORMAT, **conditions}))
        try:
            if os.path.lexists(path) and not is_regular(path):
                raise SettingsError(f"--resume {path}: is not a regular file; name another file")
            descriptor = os.open(path, _OPEN, 0o666)
            try:
                held = _read(path, descriptor)
                whole = held[: held.rfind(b"\n") + 1]
                lines = whole.splitlines()
                if lines or (held and not _line(expected).startswith(held)):
                    _check(path, lines[0] if lines else held, expected)
                records = dict(_record(path, number, line) for number, line in enumerate(lines[1:], 2))
                os.truncate(descriptor, len(whole))
                if not lines:
                    _append(descriptor, _line(expected))
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise OutputError(f"--resume {path}: {error.strerror}; name another file") from error
        return cls(descriptor), records

    def add(self, measured: Iterable[MeasuredNet]) -> None:
        """Append nets."""
        lines = (_line({**dict(condition), **msgspec.to_builtins(measure)}) for (condition, _), measure in measured)
        try:
            _append(self._descriptor, b"".join(lines))
        except OSError as error:
            raise OutputError(f"--resume: {error.strerror}; what was written before is kept") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)


def _line(tree: Any) -> bytes:
    return msgspec.json.encode(finite(tree)) + b"\n"


def _append(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _read(path: Path, descriptor: int) -> bytes:
    if not S_ISREG(os.fstat(descriptor).st_mode):
        raise SettingsError(f"--resume {path}: is not a regular file; name another file")
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        held = stream.read(MAX_BYTES + 1)
    if len(held) > MAX_BYTES:
        raise SettingsError(f"--resume {path}: expected at most {mebibytes(MAX_BYTES)}, got more; name another file")
    return held


def _check(path: Path, line: bytes, expected: Mapping[str, Any]) -> None:
    try:
        kept = decoded(line, dict[str, Any])
    except msgspec.DecodeError:
        kept = {}
    if kept.get("format") != FORMAT:
        raise SettingsError(f"--resume {path}: expected a file that rnndiag sweep wrote, or no file; name another file")
    other = [name for name in expected if kept.get(name) != expected[name]]
    if other:
        name = other[0]
        raise SettingsError(
            f"--resume {path}: is of a sweep with {name} {_brief(kept.get(name))}, not {_brief(expected[name])}; "
            "repeat its options or name another file"
        )


def _brief(value: Any) -> str:
    return shortened(msgspec.json.encode(value).decode(), 60)


def _record(path: Path, number: int, line: bytes) -> MeasuredNet:
    try:
        tree = decoded(line, dict[str, Any])
        measure = msgspec.convert({name: _number(tree.pop(name)) for name in NetMeasure.__slots__}, NetMeasure)
    except (msgspec.MsgspecError, KeyError) as error:
        raise SettingsError(f"--resume {path}: line {number} is damaged ({error}); name another file") from None
    if not all(isinstance(value, int | float | str) for value in tree.values()):
        raise SettingsError(f"--resume {path}: line {number} is damaged (bad condition value); name another file")
    return (tuple(tree.items()), measure.seed), measure


def _number(value: Any) -> Any:
    """A number that JSON has no form for, back from its string."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
