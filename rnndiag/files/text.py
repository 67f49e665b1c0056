"""Lists and shapes in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def listing(items: Sequence[str], limit: int = 8) -> str:
    """``a, b, c and 7 more``: the first ``limit`` items and how many are left."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def shape_of(shape: Sequence[int]) -> str:
    """A shape as PyTorch prints it: ``[10, 64]``."""
    return "[" + ", ".join(map(str, shape)) + "]"
