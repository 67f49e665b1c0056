"""The contract of a spelling: the names under which a library or a community stores a cell."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf
    from rnndiag.parsers.parsed import Convention


@dataclass(frozen=True, slots=True)
class Reading:
    """One recurrent layer, made of tensors of its module."""

    tensors: Mapping[str, Leaf]
    """By role (``ROLES``), in the layout and gate order of ``convention``."""
    convention: Convention
    """Its ``kind`` and ``form`` say which cell it is."""
    used: tuple[str, ...]
    """The names, relative to the module, of all tensors that this layer accounts for."""
    extra: Mapping[str, Leaf] = field(default_factory=dict)
    """Parameters beyond PyTorch's, by their names in ``rnndiag.kinds``, in the gate order of ``convention``."""
    inner: str = ""
    """The path of the layer, relative to the module; empty: the module itself is the layer."""
    suffix: str = ""
    """The level and direction, as in PyTorch's names (``_l0_reverse``); empty for a cell."""
    notes: tuple[str, ...] = ()
    """Assumptions, one sentence each, in which ``{name}`` stands for the name of the layer."""


MAX_COMPONENTS: Final = 4


class Spelling(ABC):
    """One way to name the tensors of a cell."""

    anchor: re.Pattern[str]
    """Matches a name that every module of this spelling has, relative to the module.

    It has at most ``MAX_COMPONENTS`` components, and it is tried on every name of a file.
    """
    names: re.Pattern[str]
    """Matches every name, relative to the module, that such a layer may have. Where a module of this spelling does not
    fit, these tensors are left out, so that nothing else measures a part of them."""

    @abstractmethod
    def read(self, tensors: Mapping[str, Leaf]) -> Reading | list[Reading] | None:
        """The layer or layers in one module; None if the module only happens to have the name of the anchor.

        Args:
            tensors: all tensors of the module and the modules in it, by their names relative to it.

        Raises:
            UnfitError: the names are those of this spelling and the shapes do not fit: what was expected and found.
        """
