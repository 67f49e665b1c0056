"""Long strings of a pickle, which stay in the file, and the bytes that a string stands for."""

from __future__ import annotations

import codecs
import pickle
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from rnndiag.checkpoint.unpickling.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable

Coding: TypeAlias = Literal["bytes", "utf-8", "unicode line", "string line"]
"""How a pickle stores a string. The two lines are those of protocol 0."""

_LARGEST_GROWTH: Final[dict[Coding, int]] = {"bytes": 1, "utf-8": 2, "unicode line": 6, "string line": 4}
"""How many bytes of the file a single byte takes at most."""

_CALLS: Final = ("builtins.bytes", "builtins.bytearray", "__builtin__.bytes", "__builtin__.bytearray")


class File(Protocol):
    """What a reader asks of a file."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A string of a pickle that was skipped."""

    coding: Coding
    start: int
    """The position in the file that ``reopen`` opens."""
    size: int
    """The number of bytes that it takes there."""
    reopen: Callable[[], File] | None
    """Opens the file again; None for a file that cannot be opened again."""

    def read(self) -> bytes:
        """The bytes of the file, as they are stored.

        Raises:
            pickle.UnpicklingError: the file cannot be opened again, or it is shorter by now.
        """
        if self.reopen is None:
            raise pickle.UnpicklingError("an array where only plain values belong")
        file = self.reopen()
        try:
            file.seek(self.start)
            data = file.read(self.size)
        finally:
            file.close()
        if len(data) < self.size:
            raise pickle.UnpicklingError(f"it is cut short: {self.size} bytes expected, {len(data)} found")
        return data


@dataclass(frozen=True, slots=True, eq=False)
class ByteString:
    """Bytes that a pickle holds in any of its ways."""

    least: int
    most: int
    """The number of bytes is known exactly only where the two are equal."""
    read: Callable[[], bytes]
    blob: Blob | None = None
    """Where the bytes lie in the file exactly as they are; None if they are in memory or encoded."""


def byte_string(value: object) -> ByteString | None:
    """The bytes that a value of a pickle stands for; None for a value that stands for no bytes.

    Python 2 writes bytes as its ``str``. Python 3 writes bytes into protocols 0 to 2 as a call of ``_codecs.encode``
    for latin-1.
    """
    if isinstance(value, bytes):
        return ByteString(len(value), len(value), lambda: value)
    if isinstance(value, str):  # of Python 2
        data = value.encode("utf-8", "surrogateescape")
        return ByteString(len(data), len(data), lambda: data)
    if isinstance(value, Blob):
        if value.coding == "bytes":
            return ByteString(value.size, value.size, value.read, value)
        if value.coding == "string line":
            return _decoded(value)
        return None
    if not isinstance(value, StandIn):
        return None
    if value.path == "_codecs.encode" and len(value.args) == 2 and value.args[1] in ("latin1", "latin-1"):
        text = value.args[0]
        if isinstance(text, str):
            return ByteString(len(text), len(text), partial(text.encode, "latin-1"))
        return _decoded(text) if isinstance(text, Blob) and text.coding in ("utf-8", "unicode line") else None
    if value.path in _CALLS:
        return byte_string(value.args[0]) if len(value.args) else ByteString(0, 0, bytes)
    return None


def _decoded(blob: Blob) -> ByteString:
    least = -(-blob.size // _LARGEST_GROWTH[blob.coding])
    return ByteString(max(least - 2, 0), blob.size, partial(_decode, blob))  # a line may have quotes around it


def _decode(blob: Blob) -> bytes:
    data = blob.read()
    if blob.coding == "utf-8":
        return data.decode("utf-8", "surrogatepass").encode("latin-1")
    if blob.coding == "unicode line":
        return data.decode("raw-unicode-escape").encode("latin-1")
    return unquoted(data)


def unquoted(line: bytes) -> bytes:
    """The bytes that a line of Python 2's ``str`` in protocol 0 stands for.

    Raises:
        pickle.UnpicklingError: no quotes around the line.
    """
    line = line.rstrip(b"\r")
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise pickle.UnpicklingError("a string of protocol 0 without quotes")
    return codecs.escape_decode(line[1:-1])[0]
