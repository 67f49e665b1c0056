"""ONNX models: known by the fields of their outermost message, read in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.checkpoint.formats import parser_process
from rnndiag.checkpoint.formats.base import Candidate, Format
from rnndiag.files.parts import files_mentioned

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents

_VARINT, _LENGTH = 0, 2
_IR_VERSION, _GRAPH = 1, 7
_TEXTS: Final = frozenset((2, 3, 4))
"""Names and versions of who wrote it: short and printable, which tells it from other formats of protobuf."""
_FIELDS: Final = {_IR_VERSION: _VARINT, 5: _VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), _LENGTH)
"""How each field of onnx.ModelProto is encoded, by number."""
_FIRST_OF_GRAPH: Final = frozenset(number << 3 | _LENGTH for number in (1, 2, 5, 10, 11, 12, 13, 14, 15, 16))
"""The bytes with which an onnx.GraphProto can begin."""
MAX_FIELDS: Final = 64
"""Looked at; writers put the graph among the first ten."""
MAX_TEXT: Final = 1000
MAX_VERSION: Final = 1000
"""Of ONNX's own format; 13 in 2026."""


def read(path: Path) -> Contents:
    """The recurrent operators of a model, by ``rnndiag.parsers.onnx.model``.

    Raises:
        CheckpointError: as ``parser_process.parse`` does.
    """
    return parser_process.parse("onnx", path, extra="onnx")


def _recognizes(candidate: Candidate) -> bool:
    if candidate.is_folder or not candidate.head or candidate.head[0] >> 3 not in _FIELDS:
        return False
    with candidate.opened() as file:
        return _is_model(file, candidate.size)


def _is_model(file: BinaryIO, size: int) -> bool:
    """Whether it begins with fields of a model, in any order, up to its graph or the end of a file cut short."""
    seen: set[int] = set()
    for _ in range(MAX_FIELDS):
        tag = _varint(file)
        if tag is None or {_IR_VERSION, _GRAPH} <= seen:
            break
        number, encoding = tag >> 3, tag & 7
        value = _varint(file)
        if _FIELDS.get(number) != encoding or value is None:
            return False
        if number == _IR_VERSION and not 0 < value <= MAX_VERSION:
            return False
        if encoding == _LENGTH:
            start = file.tell()
            if not _fits(number, file.read(min(value, MAX_TEXT + 1))):
                return False
            file.seek(min(start + value, size))
        seen.add(number)
    return _IR_VERSION in seen and len(seen) > 1


def _fits(number: int, content: bytes) -> bool:
    if number in _TEXTS:
        try:
            return len(content) <= MAX_TEXT and content.decode().isprintable()
        except UnicodeDecodeError:
            return False
    return number != _GRAPH or content[:1] == b"" or content[0] in _FIRST_OF_GRAPH


def _varint(file: BinaryIO) -> int | None:
    """The number at which the file stands; None at its end, or where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


FORMAT: Final = Format("onnx", _recognizes, read, parts=files_mentioned, suffixes=(".onnx",))
