"""Files that ``torch.save`` writes since PyTorch 1.6: a zip archive of a pickle and raw storages."""

from __future__ import annotations

import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.checkpoint.contents import Contents, Reader
from rnndiag.checkpoint.inert import InertPickle, load_inertly
from rnndiag.checkpoint.text import listing, printable
from rnndiag.checkpoint.tree import walk
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE: Final = b"PK\x03\x04"
MAX_DIRECTORY: Final = 64 * 2**20
"""Bytes of the member list, some 80 a tensor; each member becomes objects ten times as large."""

_END = struct.Struct("<4s4H2LH")  # end of central directory: ..., size, offset, length of comment
_END64 = struct.Struct("<4sQ2H2L4Q")  # the same with wide fields: ..., size, offset
_LOCATOR = struct.Struct("<4sLQL")  # between the two: ..., offset of the wide record, ...


def read(path: Path) -> Contents:
    """Check the archive, then read its pickle inertly over storages mapped from the file.

    Raises:
        CheckpointError: an archive that ``torch.save`` does not write.
    """
    if path.suffix == ".safetensors":  # torch.load goes by this name, whatever the content
        raise CheckpointError(f"{path}: a torch.save file under the name .safetensors: rename it to .pt")
    size = path.stat().st_size
    sizes = _storage_sizes(path, size)

    def admit(key: str, nbytes: int) -> None:
        held = sizes.get(f"data/{key}")
        if held is None or nbytes > held:
            raise pickle.UnpicklingError(f"storage {printable(key)}: {nbytes} bytes expected, got {held or 0}")

    return walk(load_inertly(path, InertPickle(admit)), size)


READER: Final = Reader("torch", lambda head: head.startswith(SIGNATURE), read)


def _storage_sizes(path: Path, size: int) -> dict[str, int]:
    """Bytes of each member by its name within the archive's folder, all members having been checked."""
    with path.open("rb") as file:
        _check_directory(file, path, size)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    names = [member.filename for member in members]
    folder = names[0].partition("/")[0] + "/" if names else ""
    if f"{folder}data.pkl" not in names or f"{folder}constants.pkl" in names:
        raise CheckpointError(f"{path}: {_other_kind(names)}; expected a file written by torch.save")
    for member in members:
        problem = _problem(member, size)
        if problem:
            raise CheckpointError(f"{path}: member {printable(member.filename)} {problem}; torch.save writes none")
    if len({name.casefold() for name in names}) < len(names):
        raise CheckpointError(f"{path}: two members have the same name; torch.save writes each once")
    if sum(member.file_size for member in members) > size:
        raise CheckpointError(f"{path}: its members overlap: together they are larger than the file")
    return {name.removeprefix(folder): m.file_size for name, m in zip(names, members, strict=True)}


def _problem(member: zipfile.ZipInfo, size: int) -> str:
    if member.flag_bits & 0x41:
        return "is encrypted"
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        return "is compressed"
    if "\0" in member.orig_filename:
        return "has a zero byte in its name"
    if member.header_offset + member.file_size > size:
        return f"is larger than the file: {member.file_size} bytes in {size}"
    return ""


def _check_directory(file: BinaryIO, path: Path, size: int) -> None:
    """Refuse an archive whose member list two readers might look for in different places.

    Members are checked by ``zipfile`` and read by torch; the one searches backwards and allows a gap, the
    other goes by offsets. As torch.save writes it, the list ends where the records that describe it begin.
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
            f"{path}: the zip archive's member list is not where torch.save puts it:"
            f" expected {length} bytes that end at {stop}, got offset {offset}"
        )


def _other_kind(names: list[str]) -> str:
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        return "a TorchScript archive, which is not read yet: save the module's state_dict with torch.save"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy .npz archive, which is not read yet"
    return f"a zip archive without data.pkl (it holds {listing([printable(n, 60) for n in names], 4) or 'nothing'})"
