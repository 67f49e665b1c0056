"""The maps of many steps in their order, at hand a window of steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

from rnndiag.operators.base import BatchedOperator

Kind = TypeVar("Kind", bound=BatchedOperator)


@dataclass(slots=True, eq=False)
class Chain(Generic[Kind]):
    """Maps of batch ``[B]`` at ``T`` steps, of which those of one window are held."""

    load: Callable[[int, int], Kind]
    """the maps from one step to another, batch ``[n, B]``"""
    length: int
    """``T``"""
    span: int
    """steps of a window"""
    _start: int = field(default=-1, init=False)
    _maps: list[Kind] = field(default_factory=list, init=False)

    @classmethod
    def of(cls, operator: Kind) -> Chain[Kind]:
        """The chain of an operator of batch ``[T, B]`` that is held as a whole."""
        length = operator.batch[0]
        return cls(lambda start, stop: operator[start:stop], length, length)

    def windows(self) -> Iterator[Kind]:
        """The maps of each window, batch ``[n, B]``."""
        return (self.load(start, min(start + self.span, self.length)) for start in range(0, self.length, self.span))

    def __getitem__(self, step: int) -> Kind:
        """The maps of a step, with batch ``[B, 1]``: for vectors ``[B, k, n]``."""
        start = step - step % self.span
        if start != self._start:
            self._start, self._maps = start, []  # the window before goes first
            self._maps = self.load(start, min(start + self.span, self.length))[:, :, None].unbind()
        return self._maps[step - start]

    @property
    def first(self) -> Kind:
        """The first step's maps, batch ``[1, B]``: for shapes, dtype and device."""
        return self.load(0, 1)

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, n)`` of each map."""
        return self.first.shape

    @property
    def batch(self) -> torch.Size:
        """``(T, B)``."""
        return torch.Size((self.length, self.first.batch[1]))
