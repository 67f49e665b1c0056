"""Where in its file each number of a tensor lies, and which number of a layer came from where.

Reading a layer rearranges the numbers of the file: it transposes, cuts and puts together. So the way back needs no
inverse of that: each number is replaced by its address, the same code finds the layers among the addresses, and a
parameter of a layer then says of each of its numbers where it lies.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from rnndiag.checkpoint.contents import Contents, Deferred, Dequantised, Unusable
from rnndiag.checkpoint.layers.shapes import DTYPES

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from rnndiag.checkpoint.contents import Leaf

NOT_HELD: Final = "the file holds no such numbers, they are taken as zero"
"""What becomes of addresses where reading fills in zeros: a bias that stands for two."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A member of a zip archive: its bytes, under a checksum that the archive keeps."""

    start: int
    size: int
    header: int
    """Where in the file its local header begins,"""
    archive: int
    """and the archive around it,"""
    end: int
    """and where that ends."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the numbers of one tensor lie."""

    file: pathlib.Path
    start: int
    """Bytes before the first number."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers, as torch counts them."""
    dtype: torch.dtype
    swapped: bool = False
    """Whether the order of bytes is not this machine's."""
    seals: tuple[Seal, ...] = ()
    """What else of the file changes with them, innermost first."""

    @property
    def extent(self) -> tuple[int, int]:
        """The first byte, and the one after the last."""
        steps = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        return self.start, self.start + (steps + 1) * self.dtype.itemsize

    def offsets(self, numbers: np.ndarray) -> np.ndarray:
        """In bytes, where numbers lie that are given by their indices in the order of the flattened tensor."""
        if self.strides == contiguous(self.shape):
            return self.start + numbers * self.dtype.itemsize
        axes = np.unravel_index(numbers, self.shape)
        steps = sum(axis * step for axis, step in zip(axes, self.strides, strict=True))
        return np.asarray(self.start + steps * self.dtype.itemsize)


def contiguous(shape: tuple[int, ...], fortran: bool = False) -> tuple[int, ...]:
    """The strides of an array without gaps, in numbers."""
    sizes = shape if fortran else shape[::-1]
    steps = tuple(math.prod(sizes[:axis]) for axis in range(len(shape)))
    return steps if fortran else steps[::-1]


class Ledger:
    """Gives every number of the tensors entered an address of its own, from 1 on; below lie the reasons for none."""

    def __init__(self) -> None:
        self._next = 1
        self._starts: list[int] = []
        self._places: list[Place] = []
        self._leaves: dict[Place, Deferred] = {}
        self._reasons = [NOT_HELD]

    @property
    def places(self) -> tuple[Place, ...]:
        """All that were entered, in the order of their addresses."""
        return tuple(self._places)

    def leaf(self, place: Place) -> Deferred:
        """The addresses of a tensor's numbers, in its shape; the same ones for the same place."""
        if place not in self._leaves:
            read = _Addresses(self.enter(place), place.shape).read
            self._leaves[place] = Deferred(place.shape, torch.float64, read)
        return self._leaves[place]

    def enter(self, place: Place) -> int:
        """The first of the addresses of a tensor's numbers."""
        self._starts.append(self._next)
        self._places.append(place)
        self._next += math.prod(place.shape)
        return self._starts[-1]

    def reason(self, text: str) -> int:
        """The address, which is none, of numbers that have no place for this reason."""
        self._reasons.append(text)
        return 1 - len(self._reasons)

    def nowhere(self, leaf: Leaf, reason: str) -> Leaf:
        """Addresses that are none, in a tensor's shape, and why."""
        if isinstance(leaf, Unusable):
            return leaf
        shape, code = tuple(leaf.shape), float(self.reason(reason))
        return Deferred(shape, torch.float64, partial(torch.full, shape, code, dtype=torch.float64))

    def contents(self, held: Contents, place: Callable[[Tensor | Deferred], Place | Deferred | str]) -> Contents:
        """What a reader made of its file, with addresses in place of numbers.

        Args:
            held: the contents.
            place: where a tensor lies, or why it cannot be said; of one in pieces, its addresses.
        """

        def address(leaf: Leaf) -> Leaf:
            if isinstance(leaf, Unusable) or leaf.dtype not in DTYPES:
                return leaf
            if isinstance(leaf, Dequantised):
                return self.nowhere(leaf, "its numbers are quantised in the file: change the model from before")
            found = place(leaf)
            if isinstance(found, Place):
                return self.leaf(found)
            return self.nowhere(leaf, found) if isinstance(found, str) else found

        containers = tuple(
            replace(each, tensors={name: address(leaf) for name, leaf in each.tensors.items()})
            for each in held.containers
        )
        return replace(held, containers=containers)

    def look_up(self, addresses: np.ndarray) -> Iterator[tuple[Place | str, np.ndarray, np.ndarray]]:
        """Places, or reasons why there is none; which of the addresses each answers, and with which of its numbers.

        Args:
            addresses: any real numbers, ``[n]``; those that are no address are answered with a reason.
        """
        whole = np.floor(addresses)
        is_address = (whole == addresses) & (addresses > -len(self._reasons)) & (addresses < self._next)
        if not is_address.all():
            (where,) = np.nonzero(~is_address)
            yield "its numbers are computed from those in the file, not only rearranged", where, where
        owners = np.searchsorted(self._starts, whole, side="right") - 1
        for owner in np.unique(owners[is_address & (addresses > 0)]):
            (where,) = np.nonzero((owners == owner) & is_address)
            numbers = whole[where].astype(np.int64) - self._starts[owner]
            yield self._places[owner], where, numbers
        for code in np.unique(whole[is_address & (addresses <= 0)]):
            (where,) = np.nonzero(whole == code)
            yield self._reasons[-int(code)], where, where


class _Addresses:
    """Consecutive addresses, made anew where no one holds them."""

    def __init__(self, start: int, shape: tuple[int, ...]) -> None:
        self._start = start
        self._shape = shape
        self._last: weakref.ref[Tensor] | None = None

    def read(self) -> Tensor:
        # The same tensor for all who hold it: by that, modules that share weights are known.
        tensor = self._last() if self._last else None
        if tensor is None:
            stop = self._start + math.prod(self._shape)
            tensor = torch.arange(self._start, stop, dtype=torch.float64).reshape(self._shape)
            self._last = weakref.ref(tensor)
        return tensor
