"""NumPy's arrays and scalars in a pickle, as tensors that are read when a layer needs them."""

from __future__ import annotations

import math
import pickle
import re
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from rnndiag.checkpoint.contents import StoredTensor, Unusable
from rnndiag.checkpoint.unpickling.blob import byte_string
from rnndiag.checkpoint.unpickling.counts import are_counts
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.files.text import shape_of
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rnndiag.checkpoint.contents import Leaf
    from rnndiag.checkpoint.unpickling.blob import ByteString

OBJECT_ARRAY: Final = "an array of Python objects; save each array on its own, in a dict or with np.savez"

NOT_IN_PLACE: Final = "it is a NumPy array in a pickle: save the model with torch.save as tensors"
"""Why a changed array is not written back."""

DTYPES: Final[dict[str, torch.dtype]] = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "c8": torch.complex64, "c16": torch.complex128,
    "i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64,
    "u1": torch.uint8, "u2": torch.uint16, "u4": torch.uint32, "u8": torch.uint64, "b1": torch.bool,
    "bfloat16": torch.bfloat16,
}  # fmt: skip
"""By NumPy's code, without the byte order."""

_NAMES: Final = {np.dtype(code).name: code for code in DTYPES if code != "bfloat16"} | {"bfloat16": "bfloat16"}
_CODE: Final = re.compile(r"[a-zA-Z][0-9]{0,9}|bfloat16")
_BIG: Final = ">"


@dataclass(frozen=True, slots=True)
class NumberType:
    """The type of an array's numbers."""

    code: str
    """A key of ``DTYPES``."""
    is_big_endian: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The same type in PyTorch."""
        return DTYPES[self.code]

    @property
    def in_numpy(self) -> np.dtype:
        """The same type in NumPy; bfloat16, which NumPy does not have, as integers of two bytes."""
        code = "u2" if self.code == "bfloat16" else self.code
        return np.dtype(code).newbyteorder(_BIG if self.is_big_endian else "<")


def named_type(name: str) -> NumberType | Unusable:
    """The type of a name such as ``float32``."""
    return NumberType(_NAMES[name]) if name in _NAMES else _no_numbers(name)


def number_type(dtype: object) -> NumberType | Unusable:
    """What the pickled ``numpy.dtype`` says.

    Raises:
        pickle.UnpicklingError: it is not a pickled dtype.
    """
    if not isinstance(dtype, StandIn) or dtype.path != "numpy.dtype" or not dtype.args:
        raise pickle.UnpicklingError("the dtype of an array is malformed")
    code, state = dtype.args[0], dtype.state
    if isinstance(code, StandIn):  # bfloat16 is a class of ml_dtypes
        code = code.name
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise pickle.UnpicklingError("the dtype of an array is malformed")
    if code[:1] == "O":
        return Unusable(OBJECT_ARRAY)
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    if code in DTYPES:
        return NumberType(code, order == _BIG)
    is_structured = isinstance(state, tuple) and len(state) > 3 and state[3] is not None
    return Unusable("a structured array; expected an array of numbers") if is_structured else _no_numbers(code)


def _no_numbers(code: str) -> Unusable:
    return Unusable(f"an array of type {printable(code, 40)}; expected an array of numbers")


class PickledArray(StandIn):
    """An array that a pickle rebuilds first and fills afterwards."""

    __slots__ = ("_leaf",)

    def __init__(self, args: tuple[object, ...]) -> None:
        super().__init__("numpy", "ndarray", args)
        self._leaf: Leaf | None = None

    @property
    def leaf(self) -> Leaf:
        """The array as a tensor of the file: the same object at each call, by which shared arrays are recognized."""
        if self._leaf is None:
            try:
                self._leaf = self._made()
            except pickle.UnpicklingError as error:
                self._leaf = Unusable(str(error))
        return self._leaf

    def _made(self) -> Leaf:
        state = self.state
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            return Unusable("an array that its pickle leaves empty")
        shape, dtype, is_fortran, numbers = state[-4:]
        return leaf_of(numbers, dtype, shape, is_fortran=bool(is_fortran))


class PickledScalar(PickledArray):
    """A number with NumPy's type: a tensor without dimensions. A history may hold a hundred thousand of them."""

    __slots__ = ()

    def _made(self) -> Leaf:
        if len(self.args) != 2:
            raise pickle.UnpicklingError("a number of NumPy's is malformed")
        dtype, numbers = self.args
        return leaf_of(numbers, dtype, (), is_fortran=False)


def leaf_of(numbers: object, dtype: object, shape: object, *, is_fortran: bool, axes: object = None) -> Leaf:
    """An array as a tensor of the file.

    Args:
        numbers: what the pickle holds of its bytes.
        dtype: a pickled ``numpy.dtype``.
        shape: the shape.
        is_fortran: whether the first index runs fastest.
        axes: how the axes are permuted after that.

    Raises:
        pickle.UnpicklingError: the parts are not those of an array, or contradict one another.
    """
    if type(shape) is int:
        shape = (shape,)
    if not are_counts(shape):
        raise pickle.UnpicklingError("the shape of an array is malformed")
    kind = number_type(dtype)
    if isinstance(kind, Unusable):
        return kind
    found = byte_string(numbers)
    if found is None:
        raise pickle.UnpicklingError("the numbers of an array are malformed")
    return stored(kind, shape, found, is_fortran=is_fortran, axes=axes)


def bytes_of(kind: NumberType, shape: tuple[int, ...]) -> int:
    """The number of bytes of an array."""
    return math.prod(shape) * kind.in_numpy.itemsize


def stored(
    kind: NumberType,
    shape: tuple[int, ...],
    found: ByteString,
    *,
    is_fortran: bool = False,
    axes: object = None,
    not_in_place: str = NOT_IN_PLACE,
) -> Leaf:
    """A tensor of the file from the bytes of its numbers.

    Args:
        kind: the type of the numbers.
        shape: the shape.
        found: the bytes.
        is_fortran: whether the first index runs fastest.
        axes: how the axes are permuted after that.
        not_in_place: why a changed tensor is not written back.

    Raises:
        pickle.UnpicklingError: axes that are no permutation.
    """
    expected = bytes_of(kind, shape)
    if not found.least <= expected <= found.most:
        return Unusable(f"an array {shape_of(shape)} needs {expected} bytes, the file holds {found.most}")
    if axes is not None:
        if not are_counts(axes) or sorted(axes) != list(range(len(shape))):
            raise pickle.UnpicklingError("the order of an array's axes is malformed")
        read = _Numbers(kind, shape, found.read, is_fortran=False, axes=axes)
        return StoredTensor(tuple(shape[axis] for axis in axes), kind.dtype, read, lambda: not_in_place)
    numbers = _Numbers(kind, shape, found.read, is_fortran=is_fortran)
    return StoredTensor(shape, kind.dtype, numbers, lambda: not_in_place)


class _Numbers:
    """Reads an array. It gives the same tensor again while anybody keeps that tensor."""

    def __init__(
        self,
        kind: NumberType,
        shape: tuple[int, ...],
        read: Callable[[], bytes],
        *,
        is_fortran: bool,
        axes: tuple[int, ...] | None = None,
    ) -> None:
        self._kind, self._shape, self._read, self._axes = kind, shape, read, axes
        self._order: Any = "F" if is_fortran else "C"
        self._last: weakref.ref[Tensor] | None = None

    def __call__(self) -> Tensor:
        tensor = self._last() if self._last else None
        if tensor is None:
            tensor = self._tensor()
            self._last = weakref.ref(tensor)
        return tensor

    def _tensor(self) -> Tensor:
        stored_as = self._kind.in_numpy
        data = self._read()
        expected = bytes_of(self._kind, self._shape)
        if len(data) != expected:
            raise pickle.UnpicklingError(f"an array of {expected} bytes, for which the file holds {len(data)}")
        array = np.frombuffer(data, stored_as).reshape(self._shape, order=self._order)
        if self._axes is not None:
            array = array.transpose(self._axes)
        # Of bytes, which cannot be changed, torch makes no tensor.
        tensor = torch.from_numpy(array.astype(stored_as.newbyteorder("=")))
        return tensor.view(torch.bfloat16) if self._kind.code == "bfloat16" else tensor


def rebuilt(*args: object) -> PickledArray:
    """What ``_reconstruct`` gives: an array without numbers, which comes with its state."""
    return PickledArray(args)


def from_buffer(numbers: object, dtype: object, shape: object, order: object, axes: object = None, *_: object) -> Leaf:
    """What ``_frombuffer`` gives, which protocol 5 calls."""
    is_permuted = order == "K" and axes is not None
    return leaf_of(numbers, dtype, shape, is_fortran=order == "F", axes=axes if is_permuted else None)


def scalar(*args: object) -> PickledScalar:
    """What ``scalar`` gives."""
    return PickledScalar(args)


REBUILDS: Final[dict[tuple[str, str], Callable[..., object]]] = {
    (f"numpy.{package}.{module}", name): function
    for package in ("core", "_core")
    for module, name, function in (
        ("multiarray", "_reconstruct", rebuilt),
        ("multiarray", "scalar", scalar),
        ("numeric", "_frombuffer", from_buffer),
    )
}
"""What a pickle calls to rebuild an array or a scalar, by module and name."""
