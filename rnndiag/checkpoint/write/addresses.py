"""The address of each number of a model's tensors, and the way back from an address to its place in a file.

Reading a layer rearranges the numbers of the file: it transposes, cuts and joins them. The way back needs no inverse of
that. Each number is replaced by its address, the same code finds the layers among the addresses, and a parameter of a
layer then says for each of its numbers where the number lies.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from rnndiag.checkpoint.contents import COMPUTED, Chunk, Contents, StoredTensor, Unusable, assemble
from rnndiag.checkpoint.layers.shapes import DTYPES
from rnndiag.checkpoint.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnndiag.checkpoint.contents import Leaf

NOT_STORED: Final = "the file holds no such numbers, they are taken as zero"
"""The reason for addresses where reading fills in zeros: a bias that stands for two."""


FIRST: Final = 1 << 40
"""The first address. No constant that reading fills in, such as a leak of 1, is as large."""


class AddressMap:
    """Gives every number of the tensors entered an address of its own, from ``FIRST`` on.

    Numbers without a location get an address of zero or below, which stands for the reason.
    """

    def __init__(self) -> None:
        self._next = FIRST
        self._starts: list[int] = []
        self._locations: list[Location] = []
        self._leaves: dict[Location, StoredTensor] = {}
        self._reasons = [NOT_STORED]

    @property
    def locations(self) -> tuple[Location, ...]:
        """All that were entered, in the order of their addresses."""
        return tuple(self._locations)

    def contents(self, contents: Contents) -> Contents:
        """The contents of a file with addresses in place of numbers."""
        containers = tuple(
            replace(each, tensors={name: self._leaf(leaf) for name, leaf in each.tensors.items()})
            for each in contents.containers
        )
        return replace(contents, containers=containers)

    def nowhere(self, leaf: Leaf, reason: str) -> Leaf:
        """A tensor of the same shape whose numbers have no location, for a reason."""
        if isinstance(leaf, Unusable):
            return leaf
        self._reasons.append(reason)
        shape, code = leaf.shape, float(1 - len(self._reasons))
        return StoredTensor(shape, torch.float64, partial(torch.full, shape, code, dtype=torch.float64))

    def look_up(self, addresses: np.ndarray) -> Iterator[tuple[Location | str, np.ndarray, np.ndarray]]:
        """Locations, or reasons why there is none; which of the addresses each answers, and with which of its numbers.

        Args:
            addresses: any real numbers, ``[n]``; those that are no address are answered with a reason.
        """
        whole = np.floor(addresses)
        is_reason = (addresses <= 0) & (addresses > -len(self._reasons))
        is_address = (whole == addresses) & (is_reason | ((addresses >= FIRST) & (addresses < self._next)))
        if not is_address.all():
            (where,) = np.nonzero(~is_address)
            yield COMPUTED, where, where
        owners = np.searchsorted(self._starts, whole, side="right") - 1
        for owner in np.unique(owners[is_address & (addresses > 0)]):
            (where,) = np.nonzero((owners == owner) & is_address)
            numbers = whole[where].astype(np.int64) - self._starts[owner]
            yield self._locations[owner], where, numbers
        for code in np.unique(whole[is_address & (addresses <= 0)]):
            (where,) = np.nonzero(whole == code)
            yield self._reasons[-int(code)], where, where

    def _leaf(self, leaf: Leaf) -> Leaf:
        if isinstance(leaf, Unusable) or leaf.dtype not in DTYPES:
            return leaf
        found = leaf.locate()
        if isinstance(found, str):
            return self.nowhere(leaf, found)
        if isinstance(found, Location):
            return self._located(found)
        return StoredTensor(leaf.shape, torch.float64, partial(self._assembled, leaf, found))

    def _located(self, location: Location) -> StoredTensor:
        """The addresses of a tensor's numbers, in its shape; the same tensor for the same location."""
        if location not in self._leaves:
            addresses = _Addresses(self._next, location.shape)
            self._starts.append(self._next)
            self._locations.append(location)
            self._next += math.prod(location.shape)
            self._leaves[location] = StoredTensor(location.shape, torch.float64, addresses.read)
        return self._leaves[location]

    def _assembled(self, leaf: StoredTensor, chunks: tuple[Chunk, ...]) -> Tensor | Unusable:
        """The addresses of a tensor in chunks. The archive of each chunk has to be opened for that."""
        value = leaf.read()
        if isinstance(value, Unusable):
            return value
        addressed = tuple(Chunk(each.offsets, self._leaf(each.tensor)) for each in chunks)
        return assemble(leaf.shape, torch.float64, addressed)


class _Addresses:
    """Consecutive addresses, made again once nobody holds them."""

    def __init__(self, start: int, shape: tuple[int, ...]) -> None:
        self._start = start
        self._shape = shape
        self._last: weakref.ref[Tensor] | None = None

    def read(self) -> Tensor:
        """The same tensor while anybody holds it: modules that share weights are recognized by that."""
        tensor = self._last() if self._last else None
        if tensor is None:
            stop = self._start + math.prod(self._shape)
            tensor = torch.arange(self._start, stop, dtype=torch.float64).reshape(self._shape)
            self._last = weakref.ref(tensor)
        return tensor
