"""MessagePack as ``flax.serialization`` writes it."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

ARRAY, COMPLEX, SCALAR = 1, 2, 3


def extension(value: Any) -> msgpack.ExtType:
    """What Flax makes of an array, a number with NumPy's type, or a complex number."""
    if isinstance(value, complex):
        return msgpack.ExtType(COMPLEX, msgpack.packb((value.real, value.imag)))
    array = np.asarray(value)
    parts = array.shape, array.dtype.name, array.tobytes("C")
    kind = SCALAR if isinstance(value, np.generic) else ARRAY
    return msgpack.ExtType(kind, msgpack.packb(parts, use_bin_type=True))


def raw_array(shape: Any, name: Any, data: Any) -> msgpack.ExtType:
    """An array that says anything of itself."""
    return msgpack.ExtType(ARRAY, msgpack.packb((shape, name, data), use_bin_type=True))


def in_pieces(array: np.ndarray, size: int) -> dict[str, Any]:
    """What Flax makes of an array of more than a GiB."""
    flat = array.reshape(-1)
    pieces = [flat[i : i + size] for i in range(0, flat.size, size)]
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): n for i, n in enumerate(array.shape)},
        "chunks": {str(i): piece for i, piece in enumerate(pieces)},
    }


def msgpack_bytes(tree: object) -> bytes:
    """What ``flax.serialization.msgpack_serialize`` writes."""
    packed: bytes = msgpack.packb(tree, default=extension, strict_types=True)
    return packed
