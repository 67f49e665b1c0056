"""Zip and tar archives that hold models: what is in them, unpacked within bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile
import zlib
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

from rnndiag.checkpoint.formats.base import HEAD_BYTES, Candidate, MemberCandidate
from rnndiag.errors import CheckpointError
from rnndiag.files.zip import SIGNATURE, members
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

MAX_MEMBERS: Final = 10_000
MAX_RATIO: Final = 20
"""Weights hardly compress; what grows more, beyond ``FREE_BYTES`` bytes, was made to grow."""
FREE_BYTES: Final = 64 << 20
MAX_UNPACKED_BYTES: Final = 8 << 30
"""Of a content to be copied; larger archives are for their owner to unpack."""

_COMPRESSED: Final[dict[bytes, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


_Member: TypeAlias = "tuple[str, int, Callable[[], IO[bytes]]]"
"""Name, declared size, and how to open it."""


def kind_of(candidate: Candidate) -> str:
    """``zip`` or ``tar`` (plain or compressed by gzip, bzip2 or xz); empty for anything else."""
    head = candidate.head
    if head.startswith(SIGNATURE):
        return "zip"
    opener = _opener(head)
    if opener is not None:
        try:
            with candidate.opened() as packed, opener(packed) as file:
                head = _first_block(file)
        except (OSError, lzma.LZMAError, zlib.error):
            return ""
    return "tar" if head[257:262] == b"ustar" else ""


def _first_block(file: Any) -> bytes:
    """The first decompressed bytes, or as many as there are in the first bytes of a member."""
    head = b""
    with suppress(EOFError):
        while len(head) < tarfile.BLOCKSIZE and (more := file.read1(tarfile.BLOCKSIZE - len(head))):
            head += more
    return head


class TooLargeError(CheckpointError):
    """An archive that unpacks to more than models of its size do."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(
            f"{path}: it unpacks to more than {MAX_MEMBERS} files or {limit >> 20} MiB, which no models of its size do:"
            " unpack it yourself if you trust it"
        )


@dataclass(slots=True)
class Room:
    """How much one archive, with the archives in it, may still unpack to. It shrinks as its members are unpacked."""

    files: int
    bytes: int
    limit: int
    """the number of bytes that it had at first"""

    @classmethod
    def of(cls, path: Path) -> Room:
        """The room of an archive, by its size."""
        limit = min(MAX_UNPACKED_BYTES, FREE_BYTES + MAX_RATIO * path.stat().st_size)
        return cls(MAX_MEMBERS, limit, limit)


def unpack(path: Path, kind: str, into: Path, room: Room) -> None:
    """Copy the regular files of an archive into a folder; everything else in it is left out.

    Raises:
        TooLargeError: it holds more than such an archive has any reason to hold.
        CheckpointError: it is damaged, or holds a name that leads out of the folder.
    """
    with _one_line(path, kind, room.limit), closing(_members(path, kind, room.bytes)) as files:
        for name, size, opened in files:
            room.files -= 1
            room.bytes -= size
            if room.files < 0 or room.bytes < 0:
                raise TooLargeError(path, room.limit)
            target = into / _safe(name, path)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened() as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise CheckpointError(f"{path}: two members of the {kind} archive need the same name") from error


def heads(path: Path, kind: str, limit: int) -> Iterator[MemberCandidate]:
    """The first bytes of each regular file in an archive, in its order; nothing is written.

    Args:
        path: the archive.
        kind: its kind.
        limit: how many bytes of a tar archive are read, after decompression.

    Raises:
        TooLargeError: it holds more than ``MAX_MEMBERS`` files, or a tar archive more than ``limit`` bytes.
        CheckpointError: the archive is damaged.
    """
    with _one_line(path, kind, limit), closing(_members(path, kind, limit)) as files:
        for count, (name, size, opened) in enumerate(files):
            if count >= MAX_MEMBERS:
                raise TooLargeError(path, limit)
            with opened() as file:
                yield MemberCandidate(name, file.read(HEAD_BYTES), size)


@contextmanager
def _one_line(path: Path, kind: str, limit: int) -> Iterator[None]:
    """Make a refusal of whatever damage brings out.

    zipfile, tarfile and the decompressors raise almost any exception.
    """
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except _LimitError as error:
        raise TooLargeError(path, limit) from error
    except Exception as error:
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise CheckpointError(f"{path}: a {kind} archive that cannot be unpacked: {reason}; copy it again") from error


def _members(path: Path, kind: str, limit: int) -> Generator[_Member]:
    return _zip(path) if kind == "zip" else _tar(path, limit)


def _zip(path: Path) -> Generator[_Member]:
    listed = members(path)
    with zipfile.ZipFile(path) as archive:
        for member in listed:
            if not member.is_dir():
                yield member.filename, member.file_size, partial(archive.open, member)


def _tar(path: Path, limit: int) -> Generator[_Member]:
    candidate = Candidate(path)
    opener = _opener(candidate.head) or nullcontext
    with (
        candidate.opened() as packed,
        opener(packed) as plain,
        tarfile.open(fileobj=_Limited(plain, limit), mode="r:") as archive,
    ):
        for member in archive:
            if member.isreg() and not member.issparse():
                yield member.name, member.size, partial(_extracted, archive, member)


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # it is a regular file
    return content


def _opener(head: bytes) -> Callable[[IO[bytes]], Any] | None:
    return next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)


def _safe(name: str, path: Path) -> Path:
    parts = PurePosixPath(name).parts
    # Two slashes are a root of their own to pathlib.
    if not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in parts[0] or "\0" in name:
        raise CheckpointError(
            f"{path}: member {printable(name, 100)!r} leads out of the archive; no packer writes such"
        )
    # Refusals of what is unpacked name it.
    return Path(*(printable(part) for part in parts))


class _LimitError(tarfile.ReadError):
    """A tar archive is larger than the limit."""


class _Limited(io.RawIOBase):
    """A decompressed file that is neither read beyond a limit, nor asked for much at once.

    tarfile reads the extended headers whole, whatever size they declare.
    """

    CHUNK = 1 << 20

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.CHUNK:
            raise tarfile.ReadError(f"it asks for {size} bytes at once")
        if self._file.tell() + size > self._limit:
            raise _LimitError
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence or offset > self._limit:
            raise _LimitError
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
