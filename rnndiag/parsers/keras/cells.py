"""A Keras cell's variables as PyTorch's parameters: kind verified by shapes, kernels transposed, gates in order.

Keras keeps a kernel ``[D, G*H]``, a recurrent kernel ``[H, G*H]`` and a bias, with the gates in the order z, r, h
(GRU) and i, f, c, o (LSTM: PyTorch's i, f, g, o).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from rnndiag.parsers.parsed import UnfitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.parsers.keras.layers import Cell, Kind

_GATES: Final[dict[Kind, int]] = {"rnn": 1, "gru": 3, "lstm": 4}


def resolve(cell: Cell, shapes: Sequence[tuple[int, ...]]) -> Cell:
    """The cell with its kind, its layout and ``reset_after`` told, by its variables' shapes where need be.

    Raises:
        UnfitError: they are not those of the cell.
    """
    if cell.fault:
        raise UnfitError(cell.fault)
    if not shapes:
        raise UnfitError("its weights are not where Keras keeps them: it was never built, or shares another's")
    shown = ", ".join(str(list(shape)) for shape in shapes[:6])
    if len(shapes) not in (2, 3) or any(len(shape) != 2 or 0 in shape for shape in shapes[:2]):
        raise UnfitError(f"expected a kernel, a recurrent kernel and perhaps a bias, got {shown}")
    (_, width), (hidden, rows) = shapes[:2]
    kinds = [cell.kind] if cell.kind else list(_GATES)
    kind = next((kind for kind in kinds if _GATES[kind] * hidden == rows == width), None)
    if kind is None:
        raise UnfitError(f"kernel and recurrent kernel are not those of one {cell.kind or 'cell'}: got {shown}")
    bias = shapes[2] if len(shapes) == 3 else None
    reset_after, is_cudnn = cell.reset_after, cell.is_cudnn
    if bias == (2 * rows,) and kind != "rnn":
        is_cudnn = True
    if kind == "gru" and bias is not None:
        told = bias != (rows,)
        if reset_after not in (None, told):
            raise UnfitError(f"reset_after is {reset_after} and its bias is that of {told}: got {shown}")
        reset_after = told
    expected = (2 * rows,) if is_cudnn else (2, rows) if kind == "gru" and reset_after else (rows,)
    if bias not in (None, expected):
        raise UnfitError(f"expected a bias {list(expected)}, got {shown}")
    return replace(cell, kind=kind, reset_after=reset_after, is_cudnn=is_cudnn)


def parameters(cell: Cell, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """``weight_ih [G*H, D]``, ``weight_hh [G*H, H]`` and the biases ``[G*H]`` of a cell that was resolved.

    A bias that Keras does not have is zero; a cell without any has none.
    """
    assert cell.kind
    gates = _GATES[cell.kind]
    kernel, recurrent = arrays[:2]
    if cell.is_cudnn:
        # A flat matrix [H, D] a gate in the place of [D, H], and W_hh as it is (keras 2, legacy/saving/hdf5_format.py).
        inputs = np.concatenate([block.reshape(block.shape[::-1]) for block in np.split(kernel, gates, axis=1)])
        states = np.concatenate(np.split(recurrent, gates, axis=1))
    else:
        inputs, states = kernel.T, recurrent.T
    named = {"weight_ih": inputs, "weight_hh": states}
    if len(arrays) == 3:
        biases = arrays[2].reshape(-1, inputs.shape[0])
        named["bias_ih"] = biases[0]
        named["bias_hh"] = biases[1] if len(biases) == 2 else np.zeros_like(biases[0])
    if cell.kind == "gru":
        named = {name: _reset_first(array) for name, array in named.items()}
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


def _reset_first(array: np.ndarray) -> np.ndarray:
    """Rows z, r, h as r, z, n."""
    update, reset, new = np.split(array, 3)
    return np.concatenate((reset, update, new))
