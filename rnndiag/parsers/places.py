"""Where in a file the numbers of arrays lie: addresses from 1 on in their place; 0 and below, that there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rnndiag.parsers.parsed import BFLOAT16


@dataclass(slots=True)
class Places:
    """Filled while a file is parsed."""

    arrays: list[tuple[int, tuple[int, ...], str, bool, int]] = field(default_factory=list)
    """Bytes before the numbers, shape, dtype, whether the order of bytes is not the machine's, the first address."""
    reasons: list[str] = field(default_factory=list)
    """The first is -1, the second -2."""
    _next: int = 1

    def enter(self, start: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Addresses for the numbers of an array that begins at byte ``start`` of the file, without gaps."""
        same = (
            first for held_start, held_shape, *_, first in self.arrays if (held_start, held_shape) == (start, shape)
        )
        if not (first := next(same, 0)):
            first = self._next
            name = "bfloat16" if dtype == BFLOAT16 else dtype.newbyteorder("=").name
            self.arrays.append((start, shape, name, not dtype.isnative, first))
            self._next += math.prod(shape)
        return np.arange(first, first + math.prod(shape), dtype=np.float64).reshape(shape)

    def nowhere(self, shape: tuple[int, ...], reason: str) -> np.ndarray:
        """Addresses that are none."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return np.full(shape, -1.0 - self.reasons.index(reason))
