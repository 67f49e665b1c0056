"""What a format is, and the file or folder that a format recognizes or not."""

from __future__ import annotations

import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.errors import CheckpointError
from rnndiag.files.parts import no_parts
from rnndiag.files.zip import SIGNATURE, members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rnndiag.checkpoint.contents import Contents

HEAD_BYTES: Final = 512
"""How many bytes show a format: a tar header is the longest, at 512."""

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
        self.head = b""
        """The first ``HEAD_BYTES`` bytes, or the whole file; empty for a folder."""
        if not self.is_folder:
            with path.open("rb") as file:
                self.head = file.read(HEAD_BYTES)

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


def safetensors_instead(path: Path) -> str:
    """The answer of a format that is read only."""
    del path
    return "save it as .safetensors, which is"


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
    """The usual ends of the names of its files: a search through folders opens no file with another name."""
