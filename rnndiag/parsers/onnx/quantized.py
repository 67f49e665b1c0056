"""``com.microsoft.DynamicQuantizeLSTM``, which ``onnxruntime.quantization.quantize_dynamic`` makes of every LSTM.

It stores W and R transposed, ``[directions, D, 4*H]``, as 8-bit integers with a scale and a zero point for each
direction or for each row of the original (``onnxruntime/quantization/operators/lstm.py``). At run time it also rounds
the inputs and the states of each step to 8 bits; that part depends on the data and is not computed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from rnndiag.errors import UnfitError

if TYPE_CHECKING:
    from onnx import NodeProto

DOMAIN: Final = "com.microsoft"
OP_TYPE: Final = "DynamicQuantizeLSTM"
SCALES: Final = {1: (8, 9), 2: (10, 11)}
"""By the input that a weight is: the inputs that are its scale and its zero point."""

NOTE: Final = (
    "the 8-bit weights of {} were restored with their scales and zero points; onnxruntime also rounds the inputs and"
    " states of each step to 8 bits, which is not computed here"
)


def is_quantized(node: NodeProto) -> bool:
    """Whether a node is this operator."""
    return node.op_type == OP_TYPE and node.domain == DOMAIN


def restored(name: str, weight: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """A weight as the operator LSTM takes it, ``[directions, 4*H, D]`` in float32.

    Args:
        name: ``W`` or ``R``, for messages.
        weight: ``[directions, D, 4*H]``.
        scale: ``[directions]`` or ``[directions, 4*H]``.
        zero_point: of the same shape.

    Raises:
        UnfitError: they do not fit together.
    """
    if weight.dtype not in (np.int8, np.uint8) or zero_point.dtype != weight.dtype or scale.dtype.kind != "f":
        raise UnfitError(
            f"its {name} is {weight.dtype} with scales in {scale.dtype} and zero points in {zero_point.dtype}:"
            " expected int8 or uint8, with zero points of the same type"
        )
    directions, columns = (weight.shape[0], weight.shape[2]) if weight.ndim == 3 else (0, 0)
    if scale.shape not in ((directions,), (directions, columns)) or zero_point.shape != scale.shape:
        raise UnfitError(
            f"its {name} {list(weight.shape)} has scales {list(scale.shape)} and zero points {list(zero_point.shape)}:"
            f" expected both [{directions}] or [{directions}, {columns}]"
        )
    along = (*scale.shape, *(1,) * (3 - scale.ndim))  # of [directions, 4*H, D]
    found = np.ascontiguousarray(weight.transpose(0, 2, 1)).astype(np.float32)
    found -= zero_point.astype(np.float32).reshape(along)
    found *= scale.astype(np.float32).reshape(along)
    return found
