"""Trees of arrays in MessagePack, which ``flax.serialization`` writes: parameters by nested names.

The decoder is our own. The libraries for MessagePack build the whole tree in memory with all its numbers, and limit
neither the number of objects nor the work. This decoder leaves the numbers in the file until a layer needs them.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import torch

from rnndiag.checkpoint.contents import (
    MAX_NAME_CHARACTERS,
    MAX_TENSORS,
    Container,
    Contents,
    KeyPath,
    Leaf,
    StoredTensor,
    Unusable,
)
from rnndiag.checkpoint.formats.base import Candidate, Format, mentions
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.unpickling.auxiliary import SETTINGS
from rnndiag.checkpoint.unpickling.blob import Blob, ByteString
from rnndiag.checkpoint.unpickling.counts import are_counts
from rnndiag.checkpoint.unpickling.ndarray import bytes_of, named_type, stored
from rnndiag.checkpoint.unpickling.training_step import KEYS, counter
from rnndiag.checkpoint.unpickling.walk import is_optimizer
from rnndiag.errors import CheckpointError, UnreadableError
from rnndiag.files.text import shape_of
from rnndiag.files.work_budget import current_budget
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from rnndiag.checkpoint.unpickling.blob import File

MAX_DEPTH: Final = 64
"""The deepest nesting of maps and arrays; models stay below twenty."""
MAX_TEXT_BYTES: Final = 4096
"""The longest string that is kept; no name is longer."""
UNITS_PER_VALUE: Final = 6
"""Units of the work budget for each value of a tree."""

ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Flax's types of extension: an array, a complex number, and a number with NumPy's type."""

CHUNKED: Final = "__msgpack_chunked_array__"
"""The key by which Flax marks an array of more than a GiB, which it stores in flat pieces."""

NOT_IN_PLACE: Final = "it is stored in MessagePack: save the model as .safetensors"

_NUMBERS: Final = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_TEXTS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARIES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}
_EXTENSIONS: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
"""The bytes of a size, by the first byte of a value that begins with its size."""


class CutShortError(UnreadableError):
    """The file ends within a value."""


@dataclass(frozen=True, slots=True)
class _Binary:
    """Bytes that were skipped."""

    start: int
    size: int


def read(path: Path) -> Contents:
    """Read the names and shapes; the numbers of a tensor are read when a layer needs them.

    Raises:
        CheckpointError: a tree that is damaged, or larger than any model's.
    """
    size = path.stat().st_size
    reader = _Reader(path, size, current_budget().spend)
    try:
        with path.open("rb") as file:
            root = reader.root(file)
        collected = _Collected()
        collected.enter(root)
    except UnreadableError as error:
        reason = printable(str(error), 300)
        raise CheckpointError(f"{path}: a damaged MessagePack file: {reason}; copy it again") from error
    containers = (Container(KeyPath(), collected.tensors),) if collected.tensors else ()
    return Contents(
        size,
        containers,
        tuple(collected.skipped),
        progress=collected.progress,
        framework="Flax" if containers else "",
        auxiliary="" if containers or collected.skipped else SETTINGS,
    )


class _Reader:
    """Decodes one value, which must be a map.

    Args:
        path: the file.
        size: the number of bytes that it has.
        spend: called with the units of the work budget that each value takes.
    """

    def __init__(self, path: Path, size: int, spend: Callable[[int], None]) -> None:
        self._path = path
        self._size = size
        self._spend = spend
        self._depth = 0
        self._file: BinaryIO
        self.names = 0
        """How many names were read."""

    def reopen(self) -> File:
        """The file, opened again."""
        return self._path.open("rb")

    def root(self, file: BinaryIO) -> dict[str, Any]:
        """The whole tree.

        Raises:
            UnreadableError: it is damaged, or something follows it.
        """
        self._file = file
        value = self._value()
        if not isinstance(value, dict):
            raise UnreadableError("expected a map of names")
        if file.tell() != self._size:
            raise UnreadableError(f"{self._size - file.tell():,} bytes follow the tree")
        return value

    def _value(self) -> Any:
        self._spend(UNITS_PER_VALUE)
        code = self._take(1)[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 0x100
        if code < 0x90 or code in _MAPS:
            return self._map(code & 0x0F if code < 0x90 else self._number(_MAPS[code]))
        if code < 0xA0 or code in _ARRAYS:
            return self._array(code & 0x0F if code < 0xA0 else self._number(_ARRAYS[code]))
        if code < 0xC0 or code in _TEXTS:
            return self._text(code & 0x1F if code < 0xC0 else self._number(_TEXTS[code]))
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            layout = _NUMBERS[code]
            return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        if code in _BINARIES:
            return self._skip(self._number(_BINARIES[code]))
        if code in _EXTENSIONS:
            return self._extension(self._number(_EXTENSIONS[code]))
        if 0xD4 <= code <= 0xD8:
            return self._extension(1 << (code - 0xD4))
        raise UnreadableError(f"no value begins with the byte 0x{code:02x}")

    def _map(self, count: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for _ in self._entries(count, least=2 * count):
            key = self._value()
            if type(key) is int:
                key = str(key)
            if type(key) is not str or not 0 < len(key) <= MAX_NAME_CHARACTERS:
                raise UnreadableError("a name that is not a short text")
            self.names += 1
            if key in result:
                raise UnreadableError(f"two entries have the name {key}")
            result[key] = self._value()
        return result

    def _array(self, count: int) -> list[Any]:
        return [self._value() for _ in self._entries(count, least=count)]

    def _entries(self, count: int, least: int) -> Iterator[int]:
        left = self._size - self._file.tell()
        if least > left:
            raise CutShortError(f"it declares {count:,} entries, for which {left:,} bytes are left")
        self._descend()
        yield from range(count)
        self._depth -= 1

    def _descend(self) -> None:
        if self._depth >= MAX_DEPTH:
            raise UnreadableError(f"it is nested deeper than {MAX_DEPTH} levels")
        self._depth += 1

    def _text(self, size: int) -> str:
        if size > MAX_TEXT_BYTES:
            self._skip(size)
            return ""
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise UnreadableError("a text that is not UTF-8") from error

    def _extension(self, size: int) -> Any:
        kind = int.from_bytes(self._take(1), "big", signed=True)
        payload = self._skip(size)
        if kind not in (ARRAY, SCALAR):
            return None if kind == COMPLEX else Unusable(f"an extension of type {kind}, which Flax does not write")
        self._file.seek(payload.start)
        self._descend()
        parts = self._value()
        self._depth -= 1
        if self._file.tell() != payload.start + size:
            raise UnreadableError("an array's own size differs from the size of its parts")
        return self._tensor(parts)

    def _tensor(self, parts: object) -> Leaf:
        if not isinstance(parts, list) or len(parts) != 3:
            raise UnreadableError("the description of an array is malformed")
        sizes, name, numbers = parts
        shape = tuple(sizes) if isinstance(sizes, list) else None
        if not are_counts(shape) or not isinstance(name, str) or not isinstance(numbers, _Binary):
            raise UnreadableError("the description of an array is malformed")
        kind = named_type(name)
        if isinstance(kind, Unusable):
            return kind
        if bytes_of(kind, shape) != numbers.size:
            raise UnreadableError(
                f"an array {shape_of(shape)} of {name} needs {bytes_of(kind, shape):,} bytes, it holds {numbers.size:,}"
            )
        blob = Blob("bytes", numbers.start, numbers.size, self.reopen)
        return stored(kind, shape, ByteString(blob.size, blob.size, blob.read), not_in_place=NOT_IN_PLACE)

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise CutShortError("it is cut short")
        return data

    def _skip(self, size: int) -> _Binary:
        start = self._file.tell()
        if start + size > self._size:
            raise CutShortError(f"it declares {size:,} bytes, of which {self._size - start:,} are left")
        self._file.seek(start + size)
        return _Binary(start, size)


class _Collected:
    """The tensors of a tree by dotted name; optimizer state is skipped."""

    def __init__(self) -> None:
        self.tensors: dict[str, Leaf] = {}
        self.skipped: list[Skipped] = []
        self.progress: dict[str, int] = {}

    def enter(self, root: dict[str, Any]) -> None:
        """Collect all tensors, in the order of the file.

        Raises:
            UnreadableError: the pieces of an array do not fit together, or there are more tensors than in any model.
        """
        todo: list[tuple[KeyPath, object]] = [(KeyPath(), root)]
        while todo:
            path, part = todo.pop()
            if path.length > MAX_NAME_CHARACTERS:
                self.skipped.append(Skipped(_name(path), "nested too deep to be followed"))
            elif isinstance(part, StoredTensor | Unusable):
                self._add(_name(path), part)
            elif isinstance(part, dict) and CHUNKED in part:
                self._add(_name(path), _joined(_name(path), part))
            elif is_optimizer(part, path.key) and isinstance(part, dict | list):
                self.skipped.append(Skipped(_name(path), "optimizer state"))
            elif isinstance(part, dict | list):
                entries = list(part.items() if isinstance(part, dict) else ((str(i), v) for i, v in enumerate(part)))
                for key, value in entries:
                    if key in KEYS and (count := counter(path, value)) is not None:
                        self.progress.setdefault(key, count)
                todo += [(path.child(key), value) for key, value in reversed(entries)]

    def _add(self, name: str, leaf: Leaf) -> None:
        if name in self.tensors:  # a name with a dot in it
            raise UnreadableError(f"two tensors have the name {name}")
        if len(self.tensors) >= MAX_TENSORS:
            raise UnreadableError(f"more than {MAX_TENSORS:,} tensors")
        self.tensors[name] = leaf


def _name(path: KeyPath) -> str:
    return ".".join(path.parts)


def _joined(name: str, part: dict[str, Any]) -> Leaf:
    """A large array from its flat pieces."""
    sizes, pieces = (_in_order(part.get(key)) for key in ("shape", "chunks"))
    shape = None if sizes is None else tuple(sizes)
    if not are_counts(shape) or not pieces or not all(isinstance(piece, StoredTensor) for piece in pieces):
        raise UnreadableError(f"{name}: an array in pieces is malformed")
    if len({piece.dtype for piece in pieces}) > 1 or any(len(piece.shape) != 1 for piece in pieces):
        raise UnreadableError(f"{name}: the pieces of an array differ in type, or are not flat")
    count = sum(piece.shape[0] for piece in pieces)
    if count != math.prod(shape):
        raise UnreadableError(f"{name}: an array {shape_of(shape)} in pieces of {count:,} numbers together")
    return StoredTensor(shape, pieces[0].dtype, partial(_concatenated, pieces, shape), lambda: NOT_IN_PLACE)


def _in_order(part: object) -> list[Any] | None:
    """The entries of a map whose names count from 0."""
    if not isinstance(part, dict) or list(part) != [str(i) for i in range(len(part))]:
        return None
    return list(part.values())


def _concatenated(pieces: list[StoredTensor], shape: tuple[int, ...]) -> Tensor | Unusable:
    tensors = [piece.read() for piece in pieces]
    held = [tensor for tensor in tensors if not isinstance(tensor, Unusable)]
    if len(held) < len(tensors):
        return next(tensor for tensor in tensors if isinstance(tensor, Unusable))
    return torch.cat(held).reshape(shape)


def _recognizes(candidate: Candidate) -> bool:
    """Whether the beginning is that of a map of names, as far as the first bytes show it."""
    head = candidate.head
    if candidate.is_folder or not head or not (0x81 <= head[0] <= 0x8F or head[0] in _MAPS):
        return False
    reader = _Reader(candidate.path, candidate.size, lambda units: None)  # the first bytes are few
    try:
        reader.root(io.BytesIO(head))
    except CutShortError:
        return reader.names > 0
    except UnreadableError:
        return False
    return True


def _instead(path: Path) -> str:
    del path
    return "save it as .safetensors"


FORMAT: Final = Format("msgpack", _recognizes, read, _instead, searched=mentions(b"float"), is_general=True)
