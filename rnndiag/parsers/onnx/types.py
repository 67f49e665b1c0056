"""In which type a model holds the numbers of an array, which may have been widened on the way to its use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from rnndiag.parsers.parsed import BFLOAT16

if TYPE_CHECKING:
    from collections.abc import Set

Types = frozenset[np.dtype]
"""Of the stored tensors with fractions that an array was made from."""

NONE: Final[Types] = frozenset()


def types_of(dtype: np.dtype) -> Types:
    """Of a stored tensor; integers only say how others are arranged."""
    return frozenset((dtype.newbyteorder("="),)) if dtype.kind in "fV" else NONE


def as_held(array: np.ndarray, types: Set[np.dtype]) -> np.ndarray:
    """The array in the one narrower type in which the model holds it, if its numbers fit that exactly; else itself."""
    if len(types) != 1 or array.dtype.kind != "f":
        return array
    (dtype,) = types
    if dtype.itemsize >= array.dtype.itemsize:
        return array
    narrow = _bfloat16(array) if dtype == BFLOAT16 else array.astype(dtype)
    return narrow if np.array_equal(widened(narrow).astype(array.dtype), array, equal_nan=True) else array


def widened(array: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, which holds the same numbers; others as they are."""
    return (array.view("<u2").astype("<u4") << 16).view("<f4") if array.dtype == BFLOAT16 else array


def _bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves of float32."""
    return (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2").view(BFLOAT16)
