"""Keras's files: ``.keras`` archives, and HDF5 files of whole models or of weights alone."""

from __future__ import annotations

from functools import partial
from typing import Final

from rnndiag.checkpoint.formats import parser_process
from rnndiag.checkpoint.formats.base import Candidate, Format, mentions
from rnndiag.files.zip import SIGNATURE as ZIP
from rnndiag.parsers.keras.side import side_files

MATLAB: Final = b"MATLAB 7.3 MAT-file"
"""How a block of MATLAB begins; Keras writes no block."""
TAR: Final = b"ustar"
"""What a tar archive has at byte 257."""
SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_MARKS: Final = (b"layer_names", b"vars", b"RNN_0")
"""Names in the files of Keras 2 and Keras 3, and of ELMo, which is refused by name."""
_WEIGHTS: Final = frozenset({"model.weights.h5", "metadata.json"})


def _is_archive(candidate: Candidate) -> bool:
    return bool(candidate.members) and "config.json" in candidate.names and bool(_WEIGHTS & candidate.names)


def _is_hdf5(candidate: Candidate) -> bool:
    if candidate.is_folder or candidate.head.startswith((MATLAB, ZIP)) or candidate.head[257:262] == TAR:
        return False  # a member of an archive may lie where a block would end
    return candidate.head.startswith(SIGNATURE) or _is_behind_block(candidate)


def _is_behind_block(candidate: Candidate) -> bool:
    """Whether the signature is where a block of the user's own may push it: at 512 bytes, 1024 and so on."""
    at = 512
    if candidate.size <= at:
        return False
    with candidate.opened() as file:
        while at < candidate.size:
            file.seek(at)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
            at *= 2
    return False


_parse: Final = partial(parser_process.parse, "keras", extra="keras")

ARCHIVE: Final = Format("keras", _is_archive, _parse, suffixes=(".keras",))
HDF5: Final = Format(
    "keras-h5",
    _is_hdf5,
    _parse,
    parts=lambda path: iter(side_files(path)),
    suffixes=(".h5", ".hdf5"),
    searched=mentions(*_MARKS),
    is_general=True,
)
