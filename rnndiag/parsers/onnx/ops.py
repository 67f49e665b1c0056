"""The operators that writers put between a stored tensor and its use, in NumPy.

Not ``onnx.reference``: it allocates whatever a file asks for, and gets some older opsets wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from onnx import TensorProto

from rnndiag.parsers.onnx.tensors import element_type
from rnndiag.parsers.parsed import BFLOAT16, UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Inputs: TypeAlias = "Sequence[np.ndarray | None]"
Attributes: TypeAlias = "Mapping[str, Any]"
Operation: TypeAlias = "Callable[[Inputs, Attributes, int, int], Sequence[np.ndarray]]"
"""From inputs, attributes, the number of outputs and the most numbers that one may have, to the outputs."""


def _first(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    return [_array(inputs, 0)]


def _cast(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    dtype = element_type(attributes.get("to", TensorProto.UNDEFINED))
    if dtype == BFLOAT16:  # which rounds; no writer stores weights in a type to cast them to a narrower one
        raise UnfitError("its weights are cast to bfloat16")
    return [_array(inputs, 0).astype(dtype)]


def _unsqueeze(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    axes = _integers(inputs, 1, attributes, "axes")
    return [np.expand_dims(_array(inputs, 0), tuple(axes or ()))]


def _squeeze(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    axes = _integers(inputs, 1, attributes, "axes")
    return [np.squeeze(_array(inputs, 0), None if axes is None else tuple(axes))]


def _reshape(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array, shape = _array(inputs, 0), _integers(inputs, 1, attributes, "shape") or []
    if not attributes.get("allowzero", 0):
        shape = [array.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return [array.reshape(shape)]


def _flatten(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array = _array(inputs, 0)
    return [array.reshape(math.prod(array.shape[: attributes.get("axis", 1)]), -1)]


def _transpose(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    return [np.transpose(_array(inputs, 0), attributes.get("perm"))]


def _slice(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array = _array(inputs, 0)
    starts = _integers(inputs, 1, attributes, "starts") or []
    stops = _integers(inputs, 2, attributes, "ends") or []
    axes = _integers(inputs, 3, attributes, "axes") or list(range(len(starts)))
    steps = _integers(inputs, 4, attributes, "steps") or [1] * len(starts)
    index = [slice(None)] * array.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        size = array.shape[axis]
        if step > 0:
            index[axis] = slice(start, stop, step)
        else:  # ONNX moves what lies before the first entry onto it, and an end there comes after it
            index[axis] = slice(max(start, -size), None if stop < -size else stop, step)
    return [array[tuple(index)]]


def _concat(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    arrays = [_array(inputs, i) for i in range(len(inputs))]
    _fit(sum(array.size for array in arrays), room)
    return [np.concatenate(arrays, attributes.get("axis", 1))]


def _split(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array, axis = _array(inputs, 0), attributes.get("axis", 0)
    sizes = _integers(inputs, 1, attributes, "split")
    if sizes is None:
        each = -(-array.shape[axis] // outputs)  # the last may be smaller
        sizes = [each] * (outputs - 1) + [array.shape[axis] - each * (outputs - 1)]
    if sum(sizes) != array.shape[axis] or min(sizes) < 0:
        raise ValueError(f"split of {array.shape[axis]} into {sizes}")
    return np.split(array, np.cumsum(sizes[:-1]), axis)


def _gather(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array, indices, axis = _array(inputs, 0), _array(inputs, 1), attributes.get("axis", 0)
    _fit(array.size // max(1, array.shape[axis]) * indices.size, room)
    return [np.take(array, indices.astype(np.int64, casting="same_kind"), axis)]


def _expand(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array = _array(inputs, 0)
    shape = np.broadcast_shapes(array.shape, tuple(_integers(inputs, 1, attributes, "") or ()))
    _fit(math.prod(shape), room)
    return [np.broadcast_to(array, shape)]


def _constant_of_shape(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    shape = _integers(inputs, 0, attributes, "") or []
    _fit(math.prod(shape), room)
    return [np.full(shape, attributes.get("value", np.float32(0)))]


def _shape(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    shape = np.array(_array(inputs, 0).shape, np.int64)
    return [shape[attributes.get("start", 0) : attributes.get("end")]]


def _dequantize(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
    array, scale = _array(inputs, 0), _array(inputs, 1)
    zero = inputs[2] if len(inputs) > 2 else None
    if scale.size > 1:
        axis = attributes.get("axis", 1)
        if scale.shape != (array.shape[axis],):
            raise UnfitError("its weights are quantised in blocks, which is not read: use the model from before that")
        along = [1] * array.ndim
        along[axis] = -1
        scale, zero = scale.reshape(along), None if zero is None else zero.reshape(along)
    steps = array.astype(np.int64) - (0 if zero is None else zero.astype(np.int64))
    return [steps.astype(scale.dtype) * scale]


def _arithmetic(operation: Callable[..., np.ndarray]) -> Operation:
    """Of shapes only: what is computed from weights is no longer a weight."""

    def apply(inputs: Inputs, attributes: Attributes, outputs: int, room: int) -> list[np.ndarray]:
        one, other = _array(inputs, 0), _array(inputs, 1)
        if not (one.dtype.kind == other.dtype.kind == "i" and max(one.size, other.size) <= 64):
            raise UnfitError("its weights are computed from others, not only rearranged")
        return [operation(one, other)]

    return apply


def _truncated(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.trunc(one / other)  # towards zero, as in C
    return quotient.astype(one.dtype)


OPERATIONS: Final[Mapping[str, Operation]] = {
    "Identity": _first,
    "Dropout": _first,
    "Cast": _cast,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "DequantizeLinear": _dequantize,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_truncated),
}


def _array(inputs: Inputs, index: int) -> np.ndarray:
    array = inputs[index] if index < len(inputs) else None
    if array is None:
        raise ValueError(f"input {index} is missing")
    return array


def _integers(inputs: Inputs, index: int, attributes: Attributes, name: str) -> list[int] | None:
    """A setting that newer opsets take as an input and older ones as an attribute."""
    given = inputs[index] if index < len(inputs) else attributes.get(name)
    if given is None:
        return None
    integers = np.atleast_1d(np.asarray(given))
    if integers.ndim != 1 or integers.dtype.kind not in "iu" or integers.size > 64:
        raise ValueError(f"{name or f'input {index}'} is malformed")
    return [int(each) for each in integers]


def _fit(count: int, room: int) -> None:
    if not 0 <= count <= room:
        raise UnfitError(f"its weights are blown up to {count:,} numbers, more than the file holds")
