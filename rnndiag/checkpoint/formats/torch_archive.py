"""Zip archives of PyTorch's own writer, which makes those of torch.save, TorchScript and torch.export."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import torch
from torch import Tensor
from torch.serialization import StorageType
from torch.storage import TypedStorage, UntypedStorage

from rnndiag.checkpoint.location import Place, Seal
from rnndiag.checkpoint.unpickling.unpickler import InertUnpickler
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import current
from rnndiag.files.zip import MAX_DIRECTORY, Part, members
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rnndiag.checkpoint.contents import Deferred
    from rnndiag.checkpoint.formats.base import Candidate

_END = struct.Struct("<4s4H2LH")  # end of central directory: ..., size, offset, length of comment
_END64 = struct.Struct("<4sQ2H2L4Q")  # the same with wide fields: ..., size, offset
_LOCATOR = struct.Struct("<4sLQL")  # between the two: ..., offset of the wide record, ...
_LOCAL = struct.Struct("<4s5H3L2H")  # before each member: ..., lengths of its name and of an extra field

PER_ARCHIVE: Final = 500
PER_MEMBER: Final = 16
"""Units of ``allowance`` to open an archive, and to list each member."""

MAX_TEXT: Final = 100
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

    def __init__(self, path: Path, start: int = 0, size: int | None = None, around: tuple[Seal, ...] = ()) -> None:
        self.path = path
        self._around = around
        self._start = start
        self.size = path.stat().st_size - start if size is None else size
        with self._open() as file:
            _check_directory(file, path, self.size)
        held = members(path, start, self.size)
        current().spend(PER_ARCHIVE + PER_MEMBER * len(held))
        if sum(member.compress_size for member in held) > self.size:
            raise CheckpointError(f"{path}: its members overlap: together they are larger than the file")
        first, slash, _ = held[0].filename.partition("/") if held else ("", "", "")
        folder = first + slash if slash else ""
        self.members = {m.filename.removeprefix(folder): m for m in held if m.filename.startswith(folder)}
        self._copied: set[str] = set()
        self._storages: dict[tuple[str, torch.dtype], TypedStorage] = {}
        self._names: dict[int, str] = {}
        self._inner: list[Archive] = []

    def texts(self, names: Iterable[str], limit: int) -> Iterator[tuple[str, str]]:
        """Members as text, each with its name, of which at most ``limit`` bytes are unpacked in all."""
        with self._open() as file, zipfile.ZipFile(file) as archive:
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
        with self._open() as file:
            file.seek(start)
            return _Unpickler(self, folder, file, size).load()

    def storage(self, name: str, dtype: torch.dtype) -> TypedStorage:
        """The numbers in a member."""
        if (name, dtype) not in self._storages:
            if name in self._copied:  # copies are bounded by the file; no writer gives a storage two types
                raise pickle.UnpicklingError(f"storage {printable(name)} is read as two types")
            start, size = self._span(name)
            start += self._start
            data = self._mapped[start : start + size - size % dtype.itemsize] if size else UntypedStorage(0)
            if start % dtype.itemsize or self._is_swapped:  # the writer aligns
                data = data.clone()
                self._copied.add(name)
            if self._is_swapped:
                data.byteswap(dtype)
            if size:
                self._names[data.data_ptr()] = name
            self._storages[name, dtype] = TypedStorage(wrap_storage=data, dtype=dtype, _internal=True)
        return self._storages[name, dtype]

    def inner(self, name: str) -> Archive:
        """The archive in the member ``name``."""
        start, size = self._span(name)
        self._inner.append(Archive(self.path, self._start + start, size, (self._seal(name), *self._around)))
        return self._inner[-1]

    def place(self, tensor: Tensor | Deferred) -> Place | str:
        """Where in the file the numbers of a tensor lie that was made over one of the storages; or why nowhere."""
        found: Place | str = "its numbers do not lie in the file as they are"
        pointer = tensor.untyped_storage().data_ptr() if isinstance(tensor, Tensor) else 0
        if not isinstance(tensor, Tensor) or pointer not in self._names:
            within = (inner.place(tensor) for inner in self._inner)
            return next((place for place in within if isinstance(place, Place)), found)
        seal = self._seal(self._names[pointer])
        start = seal.start + int(tensor.storage_offset()) * tensor.element_size()
        shape, strides = tuple(tensor.shape), tensor.stride()
        return Place(self.path, start, shape, strides, tensor.dtype, self._is_swapped, (seal, *self._around))

    def _seal(self, name: str) -> Seal:
        start, size = self._span(name)
        header = self._start + self.members[name].header_offset
        return Seal(self._start + start, size, header, self._start, self._start + self.size)

    def _open(self) -> io.BufferedReader:
        return io.BufferedReader(Part(self.path, self._start, self.size))

    def _span(self, name: str) -> tuple[int, int]:
        """Where a member's bytes lie in the file, by its own header, and how many they are."""
        member = self.members[name]
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointError(
                f"{self.path}: member {printable(name)} is compressed; PyTorch's writer keeps it plain"
            )
        with self._open() as file:
            file.seek(member.header_offset)
            signature, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        start = member.header_offset + _LOCAL.size + name_length + extra_length
        if signature != b"PK\x03\x04" or start + member.file_size > self.size:
            raise CheckpointError(f"{self.path}: member {printable(name)} is not where the archive's list puts it")
        return start, member.file_size

    @cached_property
    def _mapped(self) -> Any:
        # Mapped, optimizer state is never read. Not shared: nothing is ever written to the file.
        return UntypedStorage.from_file(str(self.path), False, self._start + self.size)

    @cached_property
    def _is_swapped(self) -> bool:
        order = dict(self.texts(self.members.keys() & {"byteorder"}, MAX_TEXT))
        return order.get("byteorder", "little") != sys.byteorder


class _Unpickler(InertUnpickler):
    def __init__(self, archive: Archive, folder: str, file: BinaryIO, size: int) -> None:
        super().__init__(file, size, encoding="utf-8")
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if "Storage" in name:
            try:
                return StorageType(name)
            except KeyError:
                pass
        return super().find_class("torch._tensor" if module == "torch.tensor" else module, name)

    def admit(self, key: str, nbytes: int) -> None:
        member = self._archive.members.get(self._folder + key)
        held = member.file_size if member else 0
        if member is None or nbytes > held:
            raise pickle.UnpicklingError(f"storage {printable(key)}: {nbytes} bytes expected, got {held}")

    def persistent_load(self, pid: Any) -> object:
        _, kind, key, *_ = pid
        return self._archive.storage(self._folder + key, kind.dtype)


def _check_directory(file: BinaryIO, path: Path, size: int) -> None:
    """Refuse an archive whose member list two readers might look for in different places.

    ``zipfile`` searches backwards and allows a gap, PyTorch goes by offsets: they might show different models.
    As PyTorch writes it, the list ends where the records that describe it begin.
    """
    tail_size = min(size, _END.size + _LOCATOR.size + _END64.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    end = tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise CheckpointError(f"{path}: the zip archive is cut short or followed by other data: copy it again")
    _, _, _, _, _, length, offset, comment = _END.unpack(end)
    stop = size - _END.size
    locator = tail[-_END.size - _LOCATOR.size : -_END.size]
    if locator.startswith(b"PK\x06\x07"):
        stop -= _LOCATOR.size + _END64.size
        signature, *_, length, offset = _END64.unpack(tail[: _END64.size].rjust(_END64.size, b"\0"))
        if signature != b"PK\x06\x06" or _LOCATOR.unpack(locator)[2] != stop:
            raise CheckpointError(f"{path}: the zip archive's end records contradict each other")
    if comment or offset + length != stop or length > MAX_DIRECTORY:
        raise CheckpointError(
            f"{path}: the zip archive's member list is not where PyTorch's writer puts it:"
            f" expected {length} bytes that end at {stop}, got offset {offset}"
        )
