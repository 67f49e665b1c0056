"""An unpacked archive of models as one model, with the archives in it, one level deep."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import combined
from rnndiag.checkpoint.formats import registry
from rnndiag.checkpoint.formats.base import Candidate
from rnndiag.checkpoint.formats.unread import unread_format
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.search import Search, SearchLimitError
from rnndiag.checkpoint.unpack import kind_of, unpack
from rnndiag.errors import CheckpointError, NotAModelError
from rnndiag.files.digest import sha256_of
from rnndiag.files.parts import no_parts
from rnndiag.files.text import listing
from rnndiag.files.work_budget import MAX_UNITS, WorkBudget
from rnndiag.printable import printable
from rnndiag.process.cleanup import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents
    from rnndiag.checkpoint.fetch import LocalCopy
    from rnndiag.checkpoint.unpack import Room

MAX_ARCHIVE_UNITS: Final = 4 * MAX_UNITS
"""Units of work that all files of an archive may cause; each file may cause as many as a model."""
MAX_SECONDS: Final = 300.0
"""The time after which no further file of an archive is opened; parsers in other processes count too."""
MAX_SKIPPED: Final = 1000
"""The largest number of files that are listed as skipped."""


def read_archive(path: str, found: LocalCopy) -> tuple[str, Contents]:
    """All models of an unpacked archive as one, each under its own name in it.

    Args:
        path: the path of the archive as the user wrote it.
        found: the archive, unpacked.

    Returns:
        The kind of the archive with the format of its only model, and the contents. Files that look like a model and
        were not read are among the skipped parts.

    Raises:
        NotAModelError: no file in it looks like a model.
        CheckpointError: none of its models can be read.
    """
    assert found.room is not None  # it is an archive
    reader = _Reader(found.content, found.room)
    reader.read_all(found.content)
    parts, skipped = reader.parts, reader.skipped
    doubtful = [each for each in skipped if each.recurrent]
    if doubtful or len(parts) > 1:
        skipped += [Skipped(name, each.auxiliary) for name, each in parts.items() if each.auxiliary]
        parts = {name: each for name, each in parts.items() if not each.auxiliary}
    if not parts and len(doubtful) == 1:
        raise CheckpointError(f"{found.content / doubtful[0].name}: {doubtful[0].reason}")
    if not parts and doubtful:
        named = listing([f"{each.name} ({each.reason})" for each in doubtful], 4)
        raise CheckpointError(f"{path}: a {found.archive} archive in which no model could be read: {named}")
    if not parts:
        held = listing([printable(each.name, 60) for each in found.content.iterdir()], 6) or "no file"
        reason = f"a {found.archive} archive without a model"
        raise NotAModelError(path, reason, message=f"{reason}: it holds {held}", is_doubtful=True)
    whole = combined(parts)
    kind = f"{found.archive}/{reader.formats[next(iter(parts))]}" if len(parts) == 1 else found.archive
    return kind, replace(whole, skipped=(*whole.skipped, *skipped))


class _Reader:
    """Reads the models of one archive within common limits.

    Args:
        root: the folder of the unpacked archive.
        room: how much the archives in it may unpack to.
    """

    def __init__(self, root: Path, room: Room) -> None:
        self.parts: dict[str, Contents] = {}
        self.skipped: list[Skipped] = []
        self.formats: dict[str, str] = {}
        """the format of each part"""
        self._root, self._room = root, room
        self._looks_left = room.limit
        self._units = MAX_ARCHIVE_UNITS
        self._end = time.monotonic() + MAX_SECONDS
        self._first: dict[int, Path] = {}
        """the first file of each size"""
        self._digests: dict[int, dict[str, Path]] = {}
        """by size and digest, the first such file; only of sizes that several files have"""

    def read_all(self, folder: Path, *, is_inner: bool = False) -> None:
        """Read the models in a folder and in its archives; of an archive in an archive, name the archives in it."""
        search = Search("the archive", max_looked_bytes=self._looks_left)
        found: list[Path] = []
        try:
            found.extend(search.models_in(folder))
        except SearchLimitError:
            self._skip(folder, f"the search ended after {search.looked_bytes >> 20} MiB of inner archives; unpack them")
        self._looks_left -= search.looked_bytes
        for path in found:
            with self._skipping(path):
                self._check_time(path)
                kind = _archive_kind(path)
                if kind and not is_inner:
                    self._unpack(path, kind)
                    self.read_all(path, is_inner=True)
                elif kind:
                    self._skip(path, f"a {kind} archive within two others, which is not opened: unpack the outer ones")
                else:
                    self._read(path)
        for each in search.left_out:
            self._skip(each.path, each.reason)

    def _unpack(self, path: Path, kind: str) -> None:
        """Replace an archive by a folder with its content."""
        with temporary_folder() as folder:
            packed = path.rename(folder / "packed")
            path.mkdir()
            try:
                unpack(packed, kind, path, self._room)
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {str(error).removeprefix(f'{packed}: ')}") from error

    def _read(self, path: Path) -> None:
        same = self._same_file(path)
        if same is not None:
            self._skip(path, f"the same file as {self._name(same)}", recurrent=False)
            return
        budget = WorkBudget(min(MAX_UNITS, self._units))
        granted = budget.left
        try:
            self.formats[self._name(path)], self.parts[self._name(path)] = registry.read(path, budget=budget)
        finally:
            self._units -= granted - max(budget.left, 0)

    def _check_time(self, path: Path) -> None:
        if time.monotonic() > self._end:
            raise CheckpointError(f"{path}: other files took {MAX_SECONDS:.0f} s; unpack the archive and name this")

    def _same_file(self, path: Path) -> Path | None:
        """An earlier file with the same content, if a model of its format is one file."""
        known = registry.format_of(path)
        if path.is_dir() or known.parts is not no_parts:
            return None
        size = path.stat().st_size
        first = self._first.setdefault(size, path)
        if first is path:
            return None
        if size not in self._digests:
            self._digests[size] = {sha256_of(first): first}
        digest = sha256_of(path)
        same = self._digests[size].setdefault(digest, path)
        return same if digest and same is not path else None  # a file that is too large has no digest

    @contextmanager
    def _skipping(self, path: Path) -> Iterator[None]:
        """Make a skipped part of an error."""
        try:
            yield
        except NotAModelError as error:
            self._skip(path, error.reason, recurrent=False)
        except CheckpointError as error:
            self._skip(path, str(error).removeprefix(f"{path}: "))
        except OSError as error:
            self._skip(path, f"cannot be read: {error.strerror or error}")

    def _skip(self, path: Path, reason: str, *, recurrent: bool = True) -> None:
        """List a file as skipped: with ``recurrent``, as one that may hold a recurrent layer."""
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(Skipped(self._name(path), reason, recurrent))

    def _name(self, path: Path) -> str:
        return "(the rest)" if path == self._root else printable(path.relative_to(self._root).as_posix())


def _archive_kind(path: Path) -> str:
    """The kind of an archive; empty for a file or folder of a format that is known."""
    candidate = Candidate(path)
    if candidate.is_folder or registry.identify(candidate) or unread_format(candidate):
        return ""
    return kind_of(candidate)
