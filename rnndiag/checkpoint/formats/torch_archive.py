"""Zip archives of PyTorch's own writer, which makes those of torch.save, TorchScript and torch.export."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from torch import UntypedStorage

from rnndiag.checkpoint.location import Location
from rnndiag.checkpoint.unpickling.rebuild import Storage
from rnndiag.checkpoint.unpickling.unpickler import TensorUnpickler
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import current_budget
from rnndiag.files.zip import Part, ZipMember, check_end, content_start, members
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import torch

    from rnndiag.checkpoint.formats.base import Candidate

UNITS_PER_ARCHIVE: Final = 500
UNITS_PER_MEMBER: Final = 16
"""Units of the work budget to open an archive, and to list each member."""

MAX_TEXT_BYTES: Final = 100
"""Bytes of the member that names the order of bytes, of six."""


def folder_of(candidate: Candidate) -> str:
    """The folder in which the writer puts all members, with its slash; empty for another archive."""
    first = candidate.members[0].filename if candidate.members else ""
    folder, slash, _ = first.partition("/")
    return f"{folder}/" if slash else ""


class Archive:
    """An archive that is checked and mapped, never unpacked; its members go by their names within its folder.

    Args:
        path: the file.
        start: where in the file the archive begins.
        size: how many bytes it has, to the end of the file by default.
        around: the members that the archive itself is in.

    Raises:
        CheckpointError: an archive that the writer does not make.
    """

    def __init__(self, path: Path, start: int = 0, size: int | None = None, around: tuple[ZipMember, ...] = ()) -> None:
        self.path = path
        self._around = around
        self._start = start
        self.size = path.stat().st_size - start if size is None else size
        with self.open() as file:
            check_end(file, path, self.size)
        held = members(path, start, self.size)
        current_budget().spend(UNITS_PER_ARCHIVE + UNITS_PER_MEMBER * len(held))
        if sum(member.compress_size for member in held) > self.size:
            raise CheckpointError(f"{path}: its members overlap: together they are larger than the file")
        first, slash, _ = held[0].filename.partition("/") if held else ("", "", "")
        folder = first + slash if slash else ""
        self.members = {m.filename.removeprefix(folder): m for m in held if m.filename.startswith(folder)}
        self._copied: set[str] = set()
        self._storages: dict[tuple[str, torch.dtype], Storage] = {}

    def texts(self, names: Iterable[str], limit: int) -> Iterator[tuple[str, str]]:
        """Members as text, each with its name, of which at most ``limit`` bytes are unpacked in all."""
        with self.open() as file, zipfile.ZipFile(file) as archive:
            for name in names:
                with archive.open(self.members[name]) as member:
                    data = member.read(limit)
                limit -= len(data)
                yield name, data.decode(errors="replace")

    def unpickle(self, name: str, folder: str) -> object:
        """The object in the member ``name``, read inertly, its tensors mapped from the members in ``folder``.

        Raises:
            pickle.UnpicklingError: the pickle is damaged, or asks for something that no model needs.
        """
        start, size = self._span(name)
        with self.open() as file:
            file.seek(start)
            return _Unpickler(self, folder, file, size).load()

    def storage(self, name: str, dtype: torch.dtype) -> Storage:
        """The numbers in a member."""
        if (name, dtype) not in self._storages:
            if name in self._copied:  # copies are bounded by the file; no writer gives a storage two types
                raise pickle.UnpicklingError(f"storage {printable(name)} is read as two types")
            member = self._member(name)
            count = member.size // dtype.itemsize
            stop = member.start + count * dtype.itemsize
            data = self._mapped[member.start : stop] if member.size else UntypedStorage(0)
            if member.start % dtype.itemsize or self._is_swapped:  # the writer aligns
                data = data.clone()
                self._copied.add(name)
            if self._is_swapped:
                data.byteswap(dtype)
            enclosing = (member, *self._around)
            location = Location(self.path, member.start, (count,), (1,), dtype, self._is_swapped, enclosing)
            self._storages[name, dtype] = Storage(dtype, data.nbytes(), lambda: data, lambda: location)
        return self._storages[name, dtype]

    def inner(self, name: str) -> Archive:
        """The archive in the member ``name``."""
        member = self._member(name)
        return Archive(self.path, member.start, member.size, (member, *self._around))

    def _member(self, name: str) -> ZipMember:
        start, size = self._span(name)
        header = self._start + self.members[name].header_offset
        return ZipMember(self._start + start, size, header, self._start, self._start + self.size)

    def open(self) -> io.BufferedReader:
        """The archive as a file of its own."""
        return io.BufferedReader(Part(self.path, self._start, self.size))

    def _span(self, name: str) -> tuple[int, int]:
        """Where a member's bytes lie in the file, by its own header, and how many they are."""
        member = self.members[name]
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointError(
                f"{self.path}: member {printable(name)} is compressed; PyTorch's writer keeps it plain"
            )
        with self.open() as file:
            start = content_start(file, member)
        if start is None or start + member.file_size > self.size:
            raise CheckpointError(f"{self.path}: member {printable(name)} is not where the archive's list puts it")
        return start, member.file_size

    @cached_property
    def _mapped(self) -> Any:
        # Mapped, optimizer state is never read. Not shared: nothing is ever written to the file.
        return UntypedStorage.from_file(str(self.path), False, self._start + self.size)

    @cached_property
    def _is_swapped(self) -> bool:
        order = dict(self.texts(self.members.keys() & {"byteorder"}, MAX_TEXT_BYTES))
        return order.get("byteorder", "little") != sys.byteorder


class _Unpickler(TensorUnpickler):
    def __init__(self, archive: Archive, folder: str, file: BinaryIO, size: int) -> None:
        super().__init__(file, size, archive.open)
        self._archive = archive
        self._folder = folder

    def storage(self, key: str, dtype: torch.dtype, nbytes: int) -> Storage:
        """The member of that name."""
        name = self._folder + key
        member = self._archive.members.get(name)
        held = member.file_size if member else 0
        if member is None or nbytes > held:
            raise pickle.UnpicklingError(f"storage {printable(key)}: {nbytes} bytes expected, got {held}")
        return self._archive.storage(name, dtype)
