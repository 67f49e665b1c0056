"""Keras's files: ``.keras`` archives, and HDF5 files of whole models or of weights alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.formats import parser_process
from rnndiag.checkpoint.formats.base import Candidate, Format

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_WEIGHTS: Final = frozenset({"model.weights.h5", "metadata.json"})


def _is_archive(candidate: Candidate) -> bool:
    return bool(candidate.members) and "config.json" in candidate.names and bool(_WEIGHTS & candidate.names)


def _is_hdf5(candidate: Candidate) -> bool:
    return not candidate.is_folder and (candidate.head.startswith(SIGNATURE) or _is_behind_block(candidate.path))


def _is_behind_block(path: Path) -> bool:
    """Whether the signature is where a block of the user's own may push it: at 512 bytes, 1024 and so on."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 512
        while at < size:
            file.seek(at)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
            at *= 2
    return False


_parse: Final = partial(parser_process.parse, "keras", extra="keras")

ARCHIVE: Final = Format("keras", _is_archive, _parse, suffixes=(".keras",))
HDF5: Final = Format("keras-h5", _is_hdf5, _parse, suffixes=(".h5", ".hdf5"))
