"""Where in its file each number of a tensor lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pathlib

    import torch

    from rnndiag.files.zip import ZipMember


@dataclass(frozen=True, slots=True)
class Location:
    """Where the numbers of one tensor lie."""

    file: pathlib.Path
    start: int
    """Bytes before the first number."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers, as torch counts them."""
    dtype: torch.dtype
    is_swapped: bool = False
    """Whether the byte order is not the byte order of this machine."""
    members: tuple[ZipMember, ...] = ()
    """The members of zip archives around the numbers, innermost first. Each has a checksum over its bytes."""

    @property
    def extent(self) -> tuple[int, int]:
        """The first byte, and the byte after the last."""
        steps = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        return self.start, self.start + (steps + 1) * self.dtype.itemsize

    def offsets(self, numbers: np.ndarray) -> np.ndarray:
        """The position in bytes of numbers that are given by their indices in the flattened tensor."""
        if self.strides == contiguous(self.shape):
            return self.start + numbers * self.dtype.itemsize
        axes = np.unravel_index(numbers, self.shape)
        steps = sum(axis * step for axis, step in zip(axes, self.strides, strict=True))
        return np.asarray(self.start + steps * self.dtype.itemsize)

    def view(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Location:
        """The location of a view of the same numbers, which begins ``offset`` numbers later."""
        return replace(self, start=self.start + offset * self.dtype.itemsize, shape=shape, strides=strides)


def contiguous(shape: tuple[int, ...], *, fortran: bool = False) -> tuple[int, ...]:
    """The strides of an array without gaps, in numbers."""
    sizes = shape if fortran else shape[::-1]
    steps = tuple(math.prod(sizes[:axis]) for axis in range(len(shape)))
    return steps if fortran else steps[::-1]
