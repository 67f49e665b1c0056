"""A container whose recurrent tensors have PyTorch's names, whatever names they came with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.convention import Arranged, Convention, arrange
from rnndiag.checkpoint.layers.shapes import UnfitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf, ModuleFacts


@dataclass(slots=True)
class Renamed:
    """Filled module by module."""

    tensors: dict[str, Leaf]
    """All tensors of the container, by dotted name."""
    facts: dict[str, ModuleFacts] = field(default_factory=dict)
    """By module path."""
    misfits: list[tuple[str, str]] = field(default_factory=list)
    """By path, modules that look recurrent and do not fit together, and why."""
    notes: list[str] = field(default_factory=list)

    def take(self, names: Mapping[str, str], known: Convention, path: str, suffix: str = "") -> Arranged:
        """Bring the tensors ``names``, given by role, under PyTorch's names in the module ``path``.

        Raises:
            UnfitError: they do not fit each other, or others have the names that they would get.
        """
        arranged = arrange({role: self.tensors[name] for role, name in names.items()}, known)
        new = {f"{path}.{own}{suffix}" if path else own + suffix: leaf for own, leaf in arranged.parameters.items()}
        others = self.tensors.keys() - set(names.values())
        if not new.keys().isdisjoint(others):
            raise UnfitError(f"other tensors have the names {', '.join(new)}")
        self.drop(names)
        self.tensors |= new
        told = self.facts.get(path, arranged.facts)
        self.facts[path] = replace(
            arranged.facts, class_path=told.class_path, nonlinearity=arranged.facts.nonlinearity or told.nonlinearity
        )
        return arranged

    def drop(self, names: Mapping[str, str]) -> None:
        """Leave out tensors that are accounted for elsewhere."""
        for name in names.values():
            self.tensors.pop(name, None)
