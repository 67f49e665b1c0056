"""Where in an ONNX file the numbers of its stored tensors lie: protobuf's Python classes do not tell."""

from __future__ import annotations

import hashlib
import mmap
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from rnndiag.parsers.places import Places

_VARINT, _WIDE, _LENGTH, _NARROW = 0, 1, 2, 5
_SKIPPED: Final = {_WIDE: 8, _NARROW: 4}
_RAW: Final = TensorProto.RAW_DATA_FIELD_NUMBER
_PLAIN: Final[dict[int, int]] = {
    TensorProto.FLOAT: TensorProto.FLOAT_DATA_FIELD_NUMBER,
    TensorProto.DOUBLE: TensorProto.DOUBLE_DATA_FIELD_NUMBER,
}
"""Fields beside ``raw_data`` in which numbers lie as they are, where they are packed."""

_HOLDERS: Final = frozenset(
    each.DESCRIPTOR
    for each in (
        TensorProto,
        onnx.SparseTensorProto,
        onnx.AttributeProto,
        onnx.NodeProto,
        onnx.GraphProto,
        onnx.FunctionProto,
        onnx.TrainingInfoProto,
    )
)
"""The messages in which there may be a TensorProto, at any depth."""

BESIDE: Final = "its weights are in a file beside the model: put them into it, by onnx.save(onnx.load(path), path)"
TWICE: Final = "the file holds it twice: save it with each tensor once"
ONE_BY_ONE: Final = "the file holds its numbers in a field of integers: save them as raw_data"


class Spans:
    """The places of a model's stored tensors.

    Args:
        path: the model, which protobuf has parsed before.
        places: where they are entered.
    """

    def __init__(self, path: Path, places: Places) -> None:
        self._places = places
        self._found: defaultdict[bytes, list[dict[int, tuple[int, int]]]] = defaultdict(list)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for start, stop in _tensors(data, 0, len(data), onnx.ModelProto.DESCRIPTOR):
                fields = {number: span for number, *span in _fields(data, start, stop)}
                key = _key(TensorProto.FromString(data[start:stop]))
                self._found[key].append({number: (span[0], span[1]) for number, span in fields.items()})

    def addresses(self, tensor: TensorProto, dtype: np.dtype) -> np.ndarray:
        """Addresses in place of a tensor's numbers."""
        shape = tuple(tensor.dims)
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._places.nowhere(shape, BESIDE)
        found = self._found[_key(tensor)]
        if len(found) != 1:
            return self._places.nowhere(shape, TWICE)
        span = found[0].get(_RAW) or found[0].get(_PLAIN.get(tensor.data_type, _RAW))
        size = dtype.itemsize
        for length in shape:
            size *= length
        if span is None or span[1] - span[0] != size:
            return self._places.nowhere(shape, ONE_BY_ONE)
        return self._places.enter(span[0], shape, dtype)


def _key(tensor: TensorProto) -> bytes:
    return hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()


def _tensors(data: mmap.mmap, start: int, stop: int, kind: Any) -> Iterator[tuple[int, int]]:
    """The bytes of each TensorProto in a message of a kind."""
    below = {each.number: each.message_type for each in kind.fields if each.message_type in _HOLDERS}
    for number, first, last in _fields(data, start, stop):
        if number in below:
            if below[number] is TensorProto.DESCRIPTOR:
                yield first, last
            else:
                yield from _tensors(data, first, last, below[number])


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that have a length: number, first byte, the one after the last."""
    while start < stop:
        tag, start = _varint(data, start)
        encoding = tag & 7
        if encoding == _LENGTH:
            length, start = _varint(data, start)
            yield tag >> 3, start, start + length
            start += length
        elif encoding == _VARINT:
            _, start = _varint(data, start)
        else:
            start += _SKIPPED[encoding]


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
