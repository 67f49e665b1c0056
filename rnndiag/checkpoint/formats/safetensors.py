"""safetensors: a header of JSON and raw numbers, mapped from the file by the library of that name."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open

from rnndiag.checkpoint.contents import (
    MAX_NAME_CHARACTERS,
    MAX_TENSORS,
    Container,
    Contents,
    KeyPath,
    Leaf,
    StoredTensor,
    Unusable,
)
from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.location import Location, contiguous
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.unpickling.walk import is_nonlinearity
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import current_budget
from rnndiag.printable import printable

if TYPE_CHECKING:
    import pathlib

MAX_HEADER_BYTES: Final = 16 << 20
"""Bytes of the header, some 80 to 100 a tensor."""
_LENGTH_BYTES: Final = 8
"""The size of the number at the start of the file, which is the length of the header."""
BYTES_PER_UNIT: Final = 8
UNITS_PER_TENSOR: Final = 20
"""Units of the work budget, for the header and for each tensor that it lists."""
MAX_DIMENSIONS: Final = 64
"""As many as a tensor of PyTorch can have."""

DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""The types that a weight or a counter next to weights may have; tensors of other types are skipped and named."""


FRAMEWORKS: Final = {"pt": "PyTorch", "tf": "TensorFlow", "flax": "Flax", "mlx": "MLX"}
"""The framework of a file by ``format`` in its metadata, as transformers and MLX write it."""


def read(path: pathlib.Path) -> Contents:
    """Check the header; each tensor stays in the file until a layer needs it.

    Raises:
        CheckpointError: a header that is cut short, or larger than any model's; the library and json raise
            their own errors where it does not describe the rest of the file.
    """
    size = path.stat().st_size
    header = _header(path)
    file: Any = safe_open(path, framework="pt", device="cpu")  # verifies the offsets
    current_budget().spend(len(header) // BYTES_PER_UNIT)
    listed: dict[str, Any] = json.loads(header, object_pairs_hook=_distinct)
    start = _LENGTH_BYTES + len(header)
    tensors: dict[str, Leaf] = {}
    skipped = []
    names = file.keys()
    if len(names) > MAX_TENSORS:
        raise CheckpointError(f"{path}: it holds {len(names):,} tensors, more than any model has")
    current_budget().spend(UNITS_PER_TENSOR * len(names))
    for name in names:
        if len(name) > MAX_NAME_CHARACTERS:
            skipped.append(Skipped(printable(name, 60), f"a name of {len(name)} characters"))
        else:
            tensors[name] = _leaf(path, file, name, start + listed[name]["data_offsets"][0])
    metadata = file.metadata() or {}
    stated = metadata.get("nonlinearity")
    statements = (("__metadata__.nonlinearity", stated),) if is_nonlinearity(stated) else ()
    framework = FRAMEWORKS.get(metadata.get("format", ""), "")
    return Contents(size, (Container(KeyPath(), tensors),), tuple(skipped), statements, framework=framework)


def _leaf(path: pathlib.Path, file: Any, name: str, start: int) -> Leaf:
    """The tensor ``name``, whose numbers begin at byte ``start`` of the file."""
    view = file.get_slice(name)
    shape, kind = tuple(view.get_shape()), view.get_dtype()
    if len(shape) > MAX_DIMENSIONS:
        return Unusable(f"it has {len(shape)} dimensions")
    if kind not in DTYPES:
        return Unusable(f"expected F64, F32, F16 or BF16, got {kind}")
    location = Location(path, start, shape, contiguous(shape), DTYPES[kind], sys.byteorder != "little")
    return StoredTensor(shape, DTYPES[kind], partial(file.get_tensor, name), lambda: location)


def _header(path: pathlib.Path) -> bytes:
    """The header as it lies in the file, within what the library should be given to parse."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(f"{path}: a safetensors header of {length:,} bytes, more than any model needs")
        header = file.read(length)
    if len(header) < length:
        raise CheckpointError(
            f"{path}: cut short in its header: expected {length} bytes, got {len(header)}: copy it again"
        )
    return header


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The library takes the last of several entries of one name, and another reader might not."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("two entries have the same name")
    return entries


def _recognizes(candidate: Candidate) -> bool:
    # The upper bytes of a length: text that has a brace there is no safetensors file.
    return candidate.head[5:9] == b"\0\0\0{"


def _holds_header(candidate: Candidate) -> bool:
    """Whether the header fits into the file and begins like JSON: many binary files have a brace in the same place."""
    length = int.from_bytes(candidate.head[:_LENGTH_BYTES], "little")
    return length + _LENGTH_BYTES <= candidate.size and candidate.head[8:].lstrip(b"{ \t\r\n")[:1] in (b'"', b"}")


FORMAT: Final = Format(
    "safetensors", _recognizes, read, written_back, suffixes=(".safetensors",), searched=_holds_header
)
