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
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

from rnndiag.checkpoint.formats.base import Candidate
from rnndiag.errors import CheckpointError
from rnndiag.files.zip import SIGNATURE, members
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

MAX_MEMBERS: Final = 10_000
MAX_RATIO: Final = 20
"""Weights hardly compress; what grows more, beyond ``FREE_BYTES`` bytes, was made to grow."""
FREE_BYTES: Final = 64 << 20
MAX_UNPACKED_BYTES: Final = 8 << 30
"""Of a content to be copied; larger archives are for their owner to unpack."""

_COMPRESSED: Final[dict[bytes, Callable[[Path], Any]]] = {
    b"\x1f\x8b": gzip.GzipFile,
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
            with opener(candidate.path) as file:
                head = file.read(tarfile.BLOCKSIZE)
        except (OSError, EOFError, lzma.LZMAError, zlib.error):
            return ""
    return "tar" if head[257:262] == b"ustar" else ""


def unpack(path: Path, kind: str, into: Path) -> None:
    """Copy the regular files of an archive into a folder; everything else in it is left out.

    Raises:
        CheckpointError: a name that leads out of the folder, or more than such an archive has any reason to hold.
    """
    limit = min(MAX_UNPACKED_BYTES, FREE_BYTES + MAX_RATIO * path.stat().st_size)
    taken = 0
    try:
        with closing(_zip(path) if kind == "zip" else _tar(path, limit)) as files:
            for count, (name, size, opened) in enumerate(files):
                taken += size
                if count >= MAX_MEMBERS or taken > limit:
                    raise CheckpointError(
                        f"{path}: it unpacks to more than {MAX_MEMBERS} files or {limit >> 20} MiB, which no models of"
                        " its size do: unpack it yourself if you trust it"
                    )
                target = into / _safe(name, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened() as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise CheckpointError(f"{path}: two members of the {kind} archive need the same name") from error
    except (CheckpointError, OSError):
        raise
    # zipfile, tarfile and the decompressors answer damage with almost any exception.
    except Exception as error:
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise CheckpointError(f"{path}: a {kind} archive that cannot be unpacked: {reason}; copy it again") from error


def _zip(path: Path) -> Generator[_Member]:
    listed = members(path)
    with zipfile.ZipFile(path) as archive:
        for member in listed:
            if not member.is_dir():
                yield member.filename, member.file_size, partial(archive.open, member)


def _tar(path: Path, limit: int) -> Generator[_Member]:
    opener = _opener(Candidate(path).head) or (lambda name: name.open("rb"))
    with opener(path) as plain, tarfile.open(fileobj=_Limited(plain, limit), mode="r:") as archive:
        for member in archive:
            if member.isreg() and not member.issparse():
                yield member.name, member.size, partial(_extracted, archive, member)


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # it is a regular file
    return content


def _opener(head: bytes) -> Callable[[Path], Any] | None:
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
            raise tarfile.ReadError(f"it unpacks to more than {self._limit >> 20} MiB")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence or offset > self._limit:
            raise tarfile.ReadError(f"it unpacks to more than {self._limit >> 20} MiB")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
