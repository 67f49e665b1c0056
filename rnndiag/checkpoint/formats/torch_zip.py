"""Files that ``torch.save`` writes since PyTorch 1.6: a zip archive of a pickle and raw storages."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.formats import torchscript
from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.formats.torch_archive import Archive, folder_of
from rnndiag.checkpoint.unpickling.walk import walk
from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents


def read(path: Path) -> Contents:
    """Check the archive, then read its pickle inertly over storages mapped from the file.

    Raises:
        CheckpointError: an archive that ``torch.save`` does not write.
    """
    archive = Archive(path)
    for name, member in archive.members.items():
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path}: member {printable(name)} is compressed; torch.save writes none")
    return walk(archive.unpickle("data.pkl", "data/"), archive.size)


def _recognizes(candidate: Candidate) -> bool:
    folder = folder_of(candidate)
    others = {f"{folder}{each}" for each in torchscript.MARKS}
    return bool(folder) and f"{folder}data.pkl" in candidate.names and not others & candidate.names


FORMAT: Final = Format("torch", _recognizes, read, written_back, suffixes=(".bin", ".ckpt", ".pt", ".pth"))
