"""Tensors of a file made from other tensors of it. Nothing is read before a layer needs the numbers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnndiag.checkpoint.contents import Leaf, StoredTensor, Unusable, value_of
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def shape(leaf: Leaf) -> tuple[int, ...]:
    """The shape of a tensor.

    Raises:
        UnfitError: it is not usable, with the reason.
    """
    if isinstance(leaf, Unusable):
        raise UnfitError(leaf.reason)
    return tuple(leaf.shape)


def converted(leaf: Leaf, new_shape: tuple[int, ...], convert: Callable[[Tensor], Tensor]) -> Leaf:
    """The tensor that ``convert`` makes of another one; its shape is given, so that nothing is read for it."""
    if isinstance(leaf, Unusable):
        return leaf

    def read() -> Tensor | Unusable:
        value = value_of(leaf)
        return value if isinstance(value, Unusable) else convert(value)

    return StoredTensor(new_shape, leaf.dtype, read)


def part(leaf: Leaf, axis: int, start: int, stop: int) -> Leaf:
    """The entries from ``start`` to ``stop`` along one axis.

    Raises:
        UnfitError: the tensor does not have so many, or is not usable.
    """
    whole = shape(leaf)
    if len(whole) <= axis or not 0 <= start < stop <= whole[axis]:
        raise UnfitError(f"expected {stop} entries along axis {axis}, got shape {shape_of(whole)}")
    new = (*whole[:axis], stop - start, *whole[axis + 1 :])
    return converted(leaf, new, lambda value: value.narrow(axis, start, stop - start))


def concatenated(leaves: Sequence[Leaf], axis: int = 0) -> Leaf:
    """Tensors put together along one axis, along which alone they may differ in size.

    Raises:
        UnfitError: the shapes do not fit each other, or a tensor is not usable.
    """
    shapes = [shape(leaf) for leaf in leaves]
    others = {(*each[:axis], *each[axis + 1 :]) for each in shapes}
    if len(others) > 1 or min(map(len, shapes)) <= axis:
        raise UnfitError(f"expected tensors that fit next to each other, got {', '.join(map(shape_of, shapes[:6]))}")
    size = list(shapes[0])
    size[axis] = sum(each[axis] for each in shapes)
    usable = [leaf for leaf in leaves if not isinstance(leaf, Unusable)]  # all of them: shape() has looked

    def read() -> Tensor | Unusable:
        pieces = []
        for leaf in usable:
            value = value_of(leaf)
            if isinstance(value, Unusable):
                return value
            pieces.append(value.reshape(leaf.shape))
        return torch.cat(pieces, dim=axis)

    return StoredTensor(tuple(size), usable[0].dtype, read)


def constant(size: int, value: float, dtype: torch.dtype) -> Leaf:
    """A vector of equal numbers, which takes the memory of one."""
    return StoredTensor((size,), dtype, partial(_filled, size, value, dtype))


def dtype_of(leaf: Leaf) -> torch.dtype:
    """The dtype of a tensor.

    Raises:
        UnfitError: it is not usable, with the reason.
    """
    if isinstance(leaf, Unusable):
        raise UnfitError(leaf.reason)
    return leaf.dtype


def forget_bias(units: int, order: str, value: float, dtype: torch.dtype) -> Leaf:
    """A bias of zeros with a value in the block ``f`` of a gate order: what a library adds to its forget gate."""
    return concatenated([constant(units, value if gate == "f" else 0.0, dtype) for gate in order])


def _filled(size: int, value: float, dtype: torch.dtype) -> Tensor:
    return torch.full((1,), value, dtype=dtype).expand(size)
