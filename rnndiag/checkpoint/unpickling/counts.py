"""Values of a pickle that may serve as names, as counts of bytes, and as shapes."""

from __future__ import annotations

from typing import TypeGuard

from rnndiag.checkpoint.contents import MAX_NAME_CHARACTERS

MAX_DIMENSIONS = 64
"""The largest number of dimensions of a tensor."""


def is_short(value: object) -> bool:
    """Whether ``value`` is a string that can serve as a name."""
    return type(value) is str and len(value) <= MAX_NAME_CHARACTERS


def is_count(value: object) -> bool:
    """Whether ``value`` is an integer that can count bytes."""
    return type(value) is int and 0 <= value < 2**62


def are_counts(values: object) -> TypeGuard[tuple[int, ...]]:
    """Whether ``values`` is a tuple of counts that can serve as a shape."""
    return type(values) is tuple and len(values) <= MAX_DIMENSIONS and all(map(is_count, values))
