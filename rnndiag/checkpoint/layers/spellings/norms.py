"""What the spellings of cells with layer normalization share: the tensors of their norms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.leaves import concatenated, converted, shape
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnndiag.checkpoint.contents import Leaf


@dataclass(slots=True)
class NormTensors:
    """The parameters of the norms of one cell, collected norm by norm."""

    tensors: Mapping[str, Leaf]
    """All tensors of the module, by their names relative to it."""
    extra: dict[str, Leaf] = field(default_factory=dict)
    """The parameters by their names in ``rnndiag.kinds``."""
    used: list[str] = field(default_factory=list)

    def take(self, of: str, modules: Sequence[str], size: int) -> bool:
        """Collect the norm ``of`` from one module, or from one module per gate; whether it has parameters.

        Raises:
            UnfitError: a module is missing, or does not have ``size`` numbers.
        """
        for what in ("weight", "bias"):
            names = [f"{module}.{what}" for module in modules]
            held = [name for name in names if name in self.tensors]
            if not held:
                continue
            if missing := [name for name in names if name not in held]:
                raise UnfitError(f"{missing[0]} is missing next to {held[0]}")
            for name in held:
                if math.prod(shape(self.tensors[name])) != size:
                    found = shape_of(shape(self.tensors[name]))
                    raise UnfitError(f"{name}: expected {size} numbers for its norm, got shape {found}")
            flat = [converted(self.tensors[name], (size,), lambda value: value.reshape(-1)) for name in held]
            self.extra[f"norm_{of}_{what}"] = concatenated(flat) if len(flat) > 1 else flat[0]
            self.used += held
        return f"norm_{of}_weight" in self.extra


def units_of(tensors: Mapping[str, Leaf], name: str, gates: int) -> int:
    """``H``, from a weight ``[G*H, ..]``.

    Raises:
        UnfitError: the weight is not such a matrix.
    """
    found = shape(tensors[name])
    if len(found) != 2 or found[0] % gates or 0 in found:
        raise UnfitError(f"{name}: expected a matrix with {gates}*H rows, got shape {shape_of(found)}")
    return found[0] // gates


def pytorch_roles(tensors: Mapping[str, Leaf]) -> dict[str, str]:
    """The names of the weights and biases of a module that names them as PyTorch's cells do, by role."""
    names = {"ih": "weight_ih", "hh": "weight_hh", "hr": "weight_hr", "bias_ih": "bias_ih", "bias_hh": "bias_hh"}
    return {role: name for role, name in names.items() if name in tensors}
