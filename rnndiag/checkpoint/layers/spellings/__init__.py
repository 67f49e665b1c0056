"""The spellings that rnndiag knows beyond PyTorch's names. A new spelling is a file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rnndiag.checkpoint.layers.spellings.base import Spelling

SPELLINGS: Final[tuple[Spelling, ...]] = ()
"""In the order in which they are tried; the first that reads a module keeps its tensors."""
