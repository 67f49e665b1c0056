"""Files that ``torch.save`` writes since PyTorch 1.6: a zip archive of a pickle and raw storages."""

from __future__ import annotations

import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from rnndiag.checkpoint.inert import InertPickle, load_inertly
from rnndiag.checkpoint.reader import Candidate, Reader
from rnndiag.checkpoint.text import printable
from rnndiag.checkpoint.tree import walk
from rnndiag.checkpoint.zips import MAX_DIRECTORY, members
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents

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
    sizes = stored_sizes(path)

    def admit(key: str, nbytes: int) -> None:
        held = sizes.get(f"data/{key}")
        if held is None or nbytes > held:
            raise pickle.UnpicklingError(f"storage {printable(key)}: {nbytes} bytes expected, got {held or 0}")

    return walk(load_inertly(path, InertPickle(admit)), size)


def folder_of(candidate: Candidate) -> str:
    """The folder in which torch's writers put all members, with its slash; empty for another archive."""
    first = candidate.members[0].filename if candidate.members else ""
    folder, slash, _ = first.partition("/")
    return f"{folder}/" if slash and f"{folder}/data.pkl" in candidate.names else ""


def _accepts(candidate: Candidate) -> bool:
    folder = folder_of(candidate)
    return bool(folder) and f"{folder}constants.pkl" not in candidate.names


READER: Final = Reader("torch", _accepts, read)


def stored_sizes(path: Path) -> dict[str, int]:
    """Bytes of each member by its name within the archive's folder, all members having been checked.

    Raises:
        CheckpointError: members that torch's writers do not write.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        _check_directory(file, path, size)
    held = members(path)
    for member in held:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointError(f"{path}: member {printable(member.filename)} is compressed; torch.save writes none")
    if sum(member.file_size for member in held) > size:
        raise CheckpointError(f"{path}: its members overlap: together they are larger than the file")
    folder = held[0].filename.partition("/")[0] + "/" if held else ""
    return {member.filename.removeprefix(folder): member.file_size for member in held}


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
