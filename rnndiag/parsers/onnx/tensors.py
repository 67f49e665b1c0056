"""Tensors stored in an ONNX model, or in files next to it, as NumPy arrays; a shape is never believed.

``onnx.external_data_helper`` does not read the files next to the model. In onnx 1.16 it compares neither offset nor
length with the file, and takes attributes of any name from it. In onnx 1.23 it refuses every link, even a link to a
file in the model's own folder. In no version does it compare the length with the tensor's shape.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rnndiag.errors import UnfitError
from rnndiag.parsers.limits import allow
from rnndiag.parsers.parsed import BFLOAT16

_DTYPES: Final[dict[int, np.dtype]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.BFLOAT16: BFLOAT16,
    TensorProto.INT8: np.dtype("<i1"),
    TensorProto.UINT8: np.dtype("<u1"),
    TensorProto.INT16: np.dtype("<i2"),
    TensorProto.UINT16: np.dtype("<u2"),
    TensorProto.INT32: np.dtype("<i4"),
    TensorProto.INT64: np.dtype("<i8"),
    TensorProto.BOOL: np.dtype("?"),
}

# Opening a pipe could wait for ever; not every system has every flag.
_FLAGS: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))

MAX_BESIDE: Final = 1 << 30
"""Bytes of weights read from files beside the model."""
COPIES: Final = 6
"""How many times a tensor may be in memory, from its file to the output."""


class Tensors:
    """The stored tensors of one model.

    Args:
        path: the model's file.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self.held = path.stat().st_size
        """Bytes of numbers that the model can hold: of its file, and of what was read beside it."""
        self._beside = 0

    def read(self, tensor: TensorProto) -> np.ndarray:
        """The tensor as an array; bfloat16 as float32, which holds the same numbers.

        Raises:
            UnfitError: of another type, or with fewer or more numbers than its shape says, or in a file that
                is not read.
        """
        dtype = element_type(tensor.data_type)
        shape = tuple(tensor.dims)
        if len(shape) > 32 or min(shape, default=0) < 0 or tensor.HasField("segment"):
            raise UnfitError(f"the shape of tensor {tensor.name!r} is malformed")
        count = math.prod(shape)
        if tensor.data_location == TensorProto.EXTERNAL:
            content = self._from_beside(tensor, count * dtype.itemsize)
            tensor = TensorProto(data_type=tensor.data_type, dims=shape, raw_data=content)
        elif tensor.HasField("raw_data"):
            if len(tensor.raw_data) != count * dtype.itemsize:
                raise _miscounted(tensor, f"{count * dtype.itemsize} bytes", len(tensor.raw_data))
        else:
            numbers = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
            if len(numbers) != count:
                raise _miscounted(tensor, f"{count} numbers", len(numbers))
        array = numpy_helper.to_array(tensor)
        return array.astype(np.float32) if dtype == BFLOAT16 else array

    def _from_beside(self, tensor: TensorProto, nbytes: int) -> bytes:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = repr(entries.get("location", "")[:200])
        offset = _count(entries.get("offset") or "0", name)
        length = _count(entries.get("length") or str(nbytes), name)
        if length != nbytes:
            raise _miscounted(tensor, f"{nbytes} bytes", length)
        if self._beside + nbytes > MAX_BESIDE:
            raise UnfitError(f"its weights are more than {MAX_BESIDE >> 30} GiB")
        path = self._inside(entries.get("location", ""), name)
        with _opened(path, name) as file:
            held = os.fstat(file.fileno()).st_size
            if offset + nbytes > held:
                raise UnfitError(
                    f"the file {name} beside the model is cut short: bytes {offset} to {offset + nbytes} are needed,"
                    f" it has {held}"
                )
            allow(COPIES * nbytes)
            self._beside += nbytes
            self.held += nbytes
            file.seek(offset)
            return file.read(nbytes)

    def _inside(self, location: str, name: str) -> Path:
        parts = PurePosixPath(location).parts
        windows = PureWindowsPath(location)
        if not parts or location[:1] == "/" or windows.drive or windows.root or ".." in (*parts, *windows.parts):
            raise UnfitError(f"its weights are in {name}, and only files in the model's own folder are read")
        try:
            folder = self._folder.resolve(strict=True)
            path = (folder / location).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise UnfitError(f"its weights are in the file {name}, which is not beside the model: copy both") from None
        if not path.is_relative_to(folder):
            raise UnfitError(
                f"its weights are in {name}, a link that leads out of the model's own folder, where alone files are"
                " read: copy the file there"
            )
        return path


def _opened(path: Path, name: str) -> BinaryIO:
    """A regular file, for reading."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise UnfitError(f"the file {name} beside the model cannot be read: {error.strerror}") from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise UnfitError(f"the file {name} beside the model, where its weights should be, is not a regular one")


def element_type(data_type: int) -> np.dtype:
    """The NumPy type of an ONNX one.

    Raises:
        UnfitError: a type that no recurrent operator's weights have, nor what they are made from.
    """
    dtype = _DTYPES.get(data_type)
    if dtype is None:
        known = data_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(data_type).lower() if known else f"type {data_type}"
        raise UnfitError(f"its weights are {name}: expected float16, bfloat16, float32 or float64")
    return dtype


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UnfitError(f"the place of its weights in {name} is malformed")
    return int(text)


def _miscounted(tensor: TensorProto, expected: str, got: int) -> UnfitError:
    shape = "[" + ", ".join(map(str, tensor.dims)) + "]"
    return UnfitError(f"tensor {tensor.name[:100]!r} {shape[:100]}: expected {expected}, got {got}")
