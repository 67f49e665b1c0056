"""The operators that exporters put between a stored tensor and its use, in NumPy.

``onnx.reference`` is not used. It allocates whatever a file asks for. In onnx 1.23 it has no DequantizeLinear before
opset 19, and its Slice with a negative step differs from onnxruntime's where a start or an end lies before the first
entry.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from onnx import TensorProto

from rnndiag.errors import UnfitError
from rnndiag.parsers.onnx.tensors import element_type
from rnndiag.parsers.parsed import BFLOAT16

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Inputs: TypeAlias = "Sequence[np.ndarray | None]"
Attributes: TypeAlias = "Mapping[str, Any]"
Operation: TypeAlias = "Callable[[Inputs, Attributes], Sequence[np.ndarray]]"
"""From inputs and attributes to the outputs. The attribute ``num_outputs`` is always there."""


def _first(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    return [_array(inputs, 0)]


def _cast(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    dtype = element_type(attributes.get("to", TensorProto.UNDEFINED))
    if dtype == BFLOAT16:  # which rounds; no writer stores weights in a type to cast them to a narrower one
        raise UnfitError("its weights are cast to bfloat16")
    return [_array(inputs, 0).astype(dtype)]


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    axes = _integers(inputs, 1, attributes, "axes")
    return [np.expand_dims(_array(inputs, 0), tuple(axes or ()))]


def _squeeze(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    axes = _integers(inputs, 1, attributes, "axes")
    return [np.squeeze(_array(inputs, 0), None if axes is None else tuple(axes))]


def _reshape(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    array, shape = _array(inputs, 0), _integers(inputs, 1, attributes, "shape") or []
    if not attributes.get("allowzero", 0):
        shape = [array.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return [array.reshape(shape)]


def _flatten(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    array = _array(inputs, 0)
    return [array.reshape(math.prod(array.shape[: attributes.get("axis", 1)]), -1)]


def _transpose(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    return [np.transpose(_array(inputs, 0), attributes.get("perm"))]


def _slice(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
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


def _concat(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    arrays = [_array(inputs, i) for i in range(len(inputs))]
    return [np.concatenate(arrays, attributes.get("axis", 1))]


def _split(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    array, axis = _array(inputs, 0), attributes.get("axis", 0)
    sizes = _integers(inputs, 1, attributes, "split")
    if sizes is None:
        outputs = attributes["num_outputs"]
        each = -(-array.shape[axis] // outputs)  # the last may be smaller
        sizes = [each] * (outputs - 1) + [array.shape[axis] - each * (outputs - 1)]
    if sum(sizes) != array.shape[axis] or min(sizes) < 0:
        raise ValueError(f"split of {array.shape[axis]} into {sizes}")
    return np.split(array, np.cumsum(sizes[:-1]), axis)


def _gather(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    array, indices, axis = _array(inputs, 0), _array(inputs, 1), attributes.get("axis", 0)
    return [np.take(array, indices.astype(np.int64, casting="same_kind"), axis)]


def _expand(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    array = _array(inputs, 0)
    return [np.broadcast_to(array, _expanded(array, inputs))]


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    return [np.full(_integers(inputs, 0, {}, "") or [], attributes.get("value", np.float32(0)))]


def _shape(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    shape = np.array(_array(inputs, 0).shape, np.int64)
    return [shape[attributes.get("start", 0) : attributes.get("end")]]


def _dequantize(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
    array, scale = _array(inputs, 0), _array(inputs, 1)
    zero = inputs[2] if len(inputs) > 2 else None
    if zero is not None and zero.size != scale.size:  # otherwise the result could be larger than its inputs
        raise ValueError(f"expected a zero point for each of {scale.size} scales, got {zero.size}")
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

    def apply(inputs: Inputs, attributes: Attributes) -> list[np.ndarray]:
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


def size_of_result(kind: str, inputs: Inputs, attributes: Attributes) -> int:
    """The number of entries that an operator's output will have, known before it is made.

    Only for operators whose output can be larger than each of their inputs; 0 for other operators. Arithmetic takes
    inputs of at most 64 entries, so its output has at most 4096.
    """
    if kind == "Concat":
        return sum(_array(inputs, i).size for i in range(len(inputs)))
    if kind == "Gather":
        array, axis = _array(inputs, 0), attributes.get("axis", 0)
        return int(array.size // max(1, array.shape[axis]) * _array(inputs, 1).size)
    if kind == "Expand":
        return math.prod(_expanded(_array(inputs, 0), inputs))
    if kind == "ConstantOfShape":
        return math.prod(_integers(inputs, 0, {}, "") or [])
    return 0


def _expanded(array: np.ndarray, inputs: Inputs) -> tuple[int, ...]:
    return np.broadcast_shapes(array.shape, tuple(_integers(inputs, 1, {}, "") or ()))


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
