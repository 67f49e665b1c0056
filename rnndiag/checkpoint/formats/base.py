"""What a format is, and the file or folder that a format recognizes or not."""

from __future__ import annotations

import io
import mmap
import os
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.errors import CheckpointError
from rnndiag.files.parts import no_parts
from rnndiag.files.zip import SIGNATURE, members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rnndiag.checkpoint.contents import Contents

HEAD_BYTES: Final = 512
"""How many bytes show a format: a tar header is the longest, at 512."""

_READING: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)

MAX_MENTION_BYTES: Final = 64 << 20
"""How many bytes of a file in a general format a search looks through, in some 20 milliseconds."""

EXPECTED: Final = "expected a saved model: docs/formats.md lists what is read"
"""The end of every refusal of something that is no model."""


class Candidate:
    """A file or folder of unknown format, looked at once however many formats ask.

    Raises:
        CheckpointError: neither a regular file nor a folder.
        OSError: it is not there, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        status = path.stat()
        self.is_folder = stat.S_ISDIR(status.st_mode)
        if not self.is_folder and not stat.S_ISREG(status.st_mode):  # opening a pipe could wait for ever
            raise CheckpointError(f"{path}: neither a regular file nor a folder; {EXPECTED}")
        self.size = 0 if self.is_folder else status.st_size
        self.head = b"" if self.is_folder else read_head(path)
        """The first ``HEAD_BYTES`` bytes, or the whole file; empty for a folder."""

    @classmethod
    def of_folder(cls, path: Path, names: Iterable[str]) -> Candidate:
        """A folder whose entries are known."""
        candidate = cls.__new__(cls)
        candidate.path, candidate.is_folder, candidate.size, candidate.head = path, True, 0, b""
        candidate.__dict__["names"] = frozenset(names)
        return candidate

    def opened(self) -> BinaryIO:
        """The file, opened at its start."""
        return self.path.open("rb")

    def sibling(self, suffix: str) -> bytes:
        """The first bytes of the regular file with another suffix next to this one; empty if there is none."""
        file = self.path.with_suffix(suffix)
        try:
            return read_head(file) if file.is_file() else b""
        except OSError:
            return b""

    @cached_property
    def members(self) -> tuple[zipfile.ZipInfo, ...]:
        """The members of a zip archive; none for anything else.

        Raises:
            CheckpointError: a zip archive whose list of members cannot be read.
        """
        return members(self.path) if self.head.startswith(SIGNATURE) else ()

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the archive's members, or of the folder's entries."""
        if self.is_folder:
            return frozenset(entry.name for entry in self.path.iterdir())
        return frozenset(member.filename for member in self.members)


class MemberCandidate(Candidate):
    """The first bytes of a member of an archive that is not unpacked; nothing else of it can be looked at.

    Args:
        name: the name in the archive.
        head: its first ``HEAD_BYTES`` bytes.
        size: the bytes that it has.
    """

    def __init__(self, name: str, head: bytes, size: int) -> None:
        self.path, self.head, self.size, self.is_folder = Path(name), head, size, False

    def opened(self) -> BinaryIO:
        return io.BytesIO(self.head)

    def sibling(self, suffix: str) -> bytes:
        del suffix
        return b""

    @cached_property
    def members(self) -> tuple[zipfile.ZipInfo, ...]:
        return ()


def read_head(path: Path | str) -> bytes:
    """The first ``HEAD_BYTES`` bytes of a file; a pipe that took its place is not waited for.

    Raises:
        OSError: it is not there, or may not be read.
    """
    descriptor = os.open(path, _READING)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def safetensors_instead(path: Path) -> str:
    """The answer of a format that is read only."""
    del path
    return "save it as .safetensors, which is"


def mentions(*marks: bytes) -> Callable[[Candidate], bool]:
    """The answer of a general format whose models have one of these texts in them; most other files have none."""

    def answer(candidate: Candidate) -> bool:
        if candidate.size <= len(candidate.head) or isinstance(candidate, MemberCandidate):
            # Of a long member of an archive, the text may be further back.
            return candidate.size > len(candidate.head) or any(mark in candidate.head for mark in marks)
        with candidate.opened() as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(mark, 0, MAX_MENTION_BYTES) >= 0 for mark in marks)

    return answer


def worth_reading(candidate: Candidate) -> bool:
    """The answer of a format whose files are models."""
    del candidate
    return True


def written_back(path: Path) -> str:
    """The answer of a format into which changed models are written back."""
    del path
    return ""


@dataclass(frozen=True, slots=True)
class Format:
    """One format: an entry of the registry."""

    name: str
    """The name in ``Source.format``."""
    recognizes: Callable[[Candidate], bool]
    """Whether the file is of this format, by its content."""
    read: Callable[[Path], Contents]
    """Raises ``CheckpointError`` for a refusal; anything else it lets through is wrapped by ``registry.read``."""
    save_instead: Callable[[Path], str] = safetensors_instead
    """What to do with a file into which no changed model is written back; empty if one is written back."""
    parts: Callable[[Path], Iterator[Path]] = no_parts
    """The other files that a model of this format may consist of."""
    suffixes: tuple[str, ...] = ()
    """The usual ends of the names of its files. A file with such a name that cannot be read fails a search."""
    searched: Callable[[Candidate], bool] = worth_reading
    """Whether a search through folders and archives reads a file of this format that has another name."""
    is_general: bool = False
    """Whether most files of this format hold data and no model. A search skips such a file if it has another name and
    holds no recurrent layer."""
