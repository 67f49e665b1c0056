"""The models in a folder, found by their first bytes: files, folders that are a model themselves, and archives."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.formats import registry
from rnndiag.checkpoint.formats.base import Candidate, read_head
from rnndiag.checkpoint.formats.plain_pickle import is_pickle
from rnndiag.checkpoint.formats.registry import SUFFIXES, identify
from rnndiag.checkpoint.formats.unread import UnreadFormat, unread_format
from rnndiag.checkpoint.unpack import MAX_MEMBERS, TooLargeError, heads, kind_of
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rnndiag.checkpoint.formats.base import Format

MAX_VISITED: Final = 10_000_000
"""The largest number of files and folders that a search for one PATH visits. It is enough for a million models, each in
a folder with a few other files."""

MAX_LOOKED_BYTES: Final = 16 << 30
"""The largest number of bytes that a search reads to see what is in archives and in files of general formats."""

MAX_LOOKED_PER_ARCHIVE: Final = 256 << 20
"""The largest number of bytes of one tar archive that are read to see what is in it, in some two seconds."""

BYTES_PER_MEMBER: Final = 4096
"""What the first bytes of a member of an archive count as, by the time that they take."""

REPORT_EVERY: Final = 10_000
"""Visited entries between two calls of ``progress``."""

MIN_BYTES: Final = 16
"""A shorter file holds no layer."""

_INDEX: Final = ".index.json"
_NAMED: Final = (*SUFFIXES, _INDEX)
"""Files with such a name are found whatever they hold: one that cannot be read must not pass unnoticed."""
_TORCH_MEMBER: Final = b"/data.pkl"
"""The name of the first member in the archives of PyTorch."""
_TEXT: Final = bytes({7, 8, 9, 10, 12, 13, 27, *range(0x20, 0x7F), *range(0x80, 0x100)})
"""The bytes of text in any common encoding."""
_TEXT_FORMATS: Final = re.compile(rb"\s*[{<]|#(?:Lookup)?Parameter# ")
"""How the text formats of models begin: JSON, XML, DyNet."""
_OTHERS: Final = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"OggS", b"fLaC", b"ID3", b"%PDF", b"\x7fELF",
    b"MZ", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"SQLite format 3",
)  # fmt: skip
"""How images, sounds, programs and databases begin."""
_BYTECODE: Final = b"\r\n"
"""The third and fourth byte of Python's compiled files."""
_SAFETENSORS: Final = b"\0\0\0{"
"""The sixth to ninth byte of a safetensors file, whose first bytes are a number."""
_ONNX: Final = ".onnx"
_RAW: Final = ".bin"
"""The name of a model of PyTorch, and of the raw numbers next to an ONNX model."""
_HUB_CACHE: Final = frozenset({"blobs", "refs", "snapshots"})
"""The folders of a repository in the cache of the Hugging Face hub; the links in ``snapshots`` lead to ``blobs``."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that a search found and did not search, and why."""

    path: Path
    reason: str


class SearchLimitError(CheckpointError):
    """A search that has looked at as much as one search may."""


class Search:
    """One search through folders, which looks at each folder once, and within limits.

    Folders are identified by device and inode, so links can neither make the search run in circles nor yield a model
    twice. Only regular files are opened, and of most files only the first bytes are read.

    Args:
        what: the PATH that is searched, for messages.
        progress: called with the number of visited entries, now and then.
        max_looked_bytes: how many bytes are read at most to see what is in archives and in files of general formats.
    """

    def __init__(
        self,
        what: str,
        progress: Callable[[int], None] = lambda visited: None,
        *,
        max_looked_bytes: int = MAX_LOOKED_BYTES,
    ) -> None:
        self._what, self._progress, self._max_looked_bytes = what, progress, max_looked_bytes
        self.visited = 0
        self.left_out: list[LeftOut] = []
        """archives that were not searched"""
        self.looked_bytes = 0
        """bytes that were read to see what is in archives and in files of general formats"""
        self._searched: set[tuple[int, int]] = set()

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What is in a folder, in the order of the names; nothing for a folder that cannot be read.

        Raises:
            SearchLimitError: beyond the limits.
        """
        held = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    held.append(entry)
                    self.visited += 1
                    if self.visited > MAX_VISITED:
                        raise SearchLimitError(
                            f"{self._what}: the search stopped after {MAX_VISITED:,} files and folders; name a folder "
                            "further down, or a pattern that matches fewer"
                        )
                    if self.visited % REPORT_EVERY == 0:
                        self._progress(self.visited)
        except OSError:
            return []
        return sorted(held, key=lambda entry: entry.name)

    @staticmethod
    def is_folder(entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a folder or a link to one; a link that leads to itself is none."""
        try:
            return entry.is_dir()
        except OSError:
            return False

    def models_in(self, folder: Path) -> Iterator[Path]:
        """The models under a folder, at any depth, in the order of their names.

        These are files and folders of a format that is read, or of one that is recognized and not read; archives in
        which there is such a file; and files with the name of a model. A model in several files is found once. Links to
        folders are not followed below the folder itself. A folder that was searched before yields nothing.

        Raises:
            SearchLimitError: beyond the limits.
        """
        todo = [folder]
        while todo:
            here = todo.pop()
            if not self._is_new(here):
                continue
            entries = self.entries(os.fspath(here))
            known = _format_of(Candidate.of_folder(here, [entry.name for entry in entries]))
            if known is not None:
                yield here
            if isinstance(known, UnreadFormat):
                belongs = re.compile(known.parts or ".*", re.DOTALL).fullmatch
                entries = [entry for entry in entries if belongs(entry.name) is None]
            elif known is not None:
                continue
            folders = [entry for entry in entries if self.is_folder(entry)]
            yield from self._files(here, [entry for entry in entries if not self.is_folder(entry)])
            if _HUB_CACHE.issuperset(entry.name for entry in folders):
                folders = [entry for entry in folders if entry.name != "blobs"]
            todo += [here / entry.name for entry in reversed(folders) if not entry.is_symlink()]

    def _files(self, folder: Path, entries: Sequence[os.DirEntry[str]]) -> Iterator[Path]:
        """The models among the files of one folder, without the parts of others."""
        found: list[str] = []
        parts: list[str] = []
        limit: SearchLimitError | None = None
        for entry in entries:
            name = entry.name
            try:
                known = None if name.endswith(_NAMED) else self._look(entry)
            except SearchLimitError as error:
                limit = error
                break
            if known is None and not name.endswith(_NAMED):
                continue
            found.append(name)
            stem = re.escape(Path(name.removesuffix(_INDEX)).stem)
            if name.endswith(_INDEX):
                parts.append(rf"{stem}-(?!.*{re.escape(_INDEX)}$).*")
            elif isinstance(known, UnreadFormat) and known.parts and re.fullmatch(known.parts, name) is None:
                parts.append(known.parts.replace("{stem}", stem))
        belongs = re.compile("|".join(parts) or r"(?!)", re.DOTALL).fullmatch
        data = {part for name in found if name.endswith(_ONNX) for part in _data_of(folder / name, found)}
        yield from (folder / name for name in found if belongs(name) is None and name not in data)
        if limit is not None:
            raise limit

    def _look(self, entry: os.DirEntry[str]) -> Format | UnreadFormat | str | None:
        """What a file is: its format, the kind of an archive, or None for a file that is not a model.

        Raises:
            SearchLimitError: beyond the limits.
        """
        try:
            if not entry.is_file():
                return None
            head = read_head(entry.path)
            if not _may_be_model(head):
                return None
            candidate = Candidate(Path(entry.path))
            kind = "" if (known := _format_of(candidate)) is not None else kind_of(candidate)
            if kind:
                return kind if self._holds_model(candidate, kind) else None
            if known is None or isinstance(known, UnreadFormat):
                return known if known is not None and known.searched else None
            if known.is_general:
                self._spend(candidate.size)
            return known if known.searched(candidate) else None
        except _DamagedError:
            return "zip" if _TORCH_MEMBER in head else None
        except SearchLimitError:
            raise
        except (CheckpointError, OSError):  # it may not be read, or was replaced or deleted in the meantime
            return None

    def _holds_model(self, archive: Candidate, kind: str) -> bool:
        """Whether a member of an archive begins like a model or another archive."""
        limit = min(MAX_LOOKED_PER_ARCHIVE, self._max_looked_bytes - self.looked_bytes)
        self._spend(min(limit, archive.size))
        try:
            for member in heads(archive.path, kind, limit):
                if _may_be_worth(member):
                    return True
                self._spend(BYTES_PER_MEMBER + (member.size if kind == "tar" else 0))
            return False
        except SearchLimitError:
            raise
        except TooLargeError:
            reason = (
                f"no model among the first {MAX_MEMBERS:,} files or {limit >> 20} MiB of this {kind} archive;"
                " unpack it to search all of it"
            )
        except CheckpointError as error:
            reason = str(error).removeprefix(f"{archive.path}: ")
        self.left_out.append(LeftOut(archive.path, reason))
        return False

    def _spend(self, count: int) -> None:
        self.looked_bytes += count
        if self.looked_bytes > self._max_looked_bytes:
            raise SearchLimitError(
                f"{self._what}: the search stopped after {self._max_looked_bytes >> 20} MiB of archives and data; "
                "name a folder further down or a pattern that matches fewer"
            )

    def _is_new(self, folder: Path) -> bool:
        try:
            status = folder.stat()
        except OSError:  # it was deleted in the meantime
            return False
        key = status.st_dev, status.st_ino
        if key in self._searched:
            return False
        self._searched.add(key)
        return True


class _DamagedError(Exception):
    """A zip archive whose list of members cannot be read."""


def _may_be_model(head: bytes) -> bool:
    """Whether a file can be a model by its first bytes. This decides about most files without further looks."""
    if len(head) < MIN_BYTES:
        return False
    if not head.translate(None, _TEXT):
        return _TEXT_FORMATS.match(head) is not None or is_pickle(head)
    return head[5:9] == _SAFETENSORS or not (head.startswith(_OTHERS) or head[2:4] == _BYTECODE)


def _data_of(model: Path, names: Sequence[str]) -> Iterator[str]:
    """The files of raw numbers, among those next to an ONNX model, which the model names."""
    beside = {model.with_name(name) for name in names if name.endswith(_RAW)}
    try:
        for part in beside.intersection(registry.parts(model)) if beside else ():
            if identify(Candidate(part)) is None:
                yield part.name
    except (CheckpointError, OSError):  # the file itself is found, and reading it says why it is refused
        return


def _format_of(candidate: Candidate) -> Format | UnreadFormat | None:
    try:
        return identify(candidate) or unread_format(candidate)
    except CheckpointError as error:
        raise _DamagedError from error


def _may_be_worth(member: Candidate) -> bool:
    """Whether a member of an archive may be a model that is read, one that is not, or another archive."""
    if not _may_be_model(member.head):
        return False
    if kind_of(member) or member.head.startswith(b"BZh"):
        return True
    known = _format_of(member)
    return known is not None and (known.searched if isinstance(known, UnreadFormat) else known.searched(member))


def models_in(folder: Path) -> Iterator[Path]:
    """The models under a folder, as ``Search.models_in`` finds them.

    Raises:
        SearchLimitError: beyond the limits.
    """
    return Search(str(folder)).models_in(folder)
