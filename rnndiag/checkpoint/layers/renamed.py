"""A container whose recurrent tensors have PyTorch's names, whatever names they came with."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.layers.convention import ConvertedModule, join_gates, to_pytorch_layout
from rnndiag.errors import UnfitError
from rnndiag.kinds import KINDS
from rnndiag.parsers.parsed import ROLES
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rnndiag.checkpoint.contents import Leaf, ModuleFacts
    from rnndiag.checkpoint.layers.accounting import Scope
    from rnndiag.checkpoint.layers.spellings.base import Reading
    from rnndiag.parsers.parsed import Convention

_BY_ROLE: Final = re.compile(r"(?P<role>[a-z_]+?)(?P<suffix>_l\d+(?:_reverse)?)")
"""The name of a tensor in a module whose convention the file describes."""


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
    scopes: dict[str, Scope | None] = field(default_factory=dict)
    """By module path, which tensors are next to its recurrent weight, where these are not simply those of the module.
    None: the user or the parser has said which tensors belong to the layer."""

    def take(
        self,
        names: Mapping[str, str],
        known: Convention,
        path: str,
        suffix: str = "",
    ) -> ConvertedModule:
        """Bring the tensors ``names``, given by role, under PyTorch's names in the module ``path``.

        Raises:
            UnfitError: they do not fit each other, or others have the names that they would get.
        """
        held = {role: self.tensors[name] for role, name in names.items()}
        return self.take_leaves(held, names.values(), known, path, suffix)

    def take_gates(self, names: Mapping[str, Sequence[str]], known: Convention, path: str) -> ConvertedModule:
        """The same for a module that keeps each gate in a tensor of its own, in the order of ``known``.

        Raises:
            UnfitError: likewise, or a gate is missing.
        """
        blocks = {role: [self.tensors[name] for name in each] for role, each in names.items()}
        whole, known = join_gates(blocks, known)
        return self.take_leaves(whole, [name for each in names.values() for name in each], known, path)

    def take_reading(self, reading: Reading, path: str) -> ConvertedModule:
        """Bring a layer that a spelling read under PyTorch's names in the module ``path``.

        Raises:
            UnfitError: the tensors do not fit each other, or others have the names that they would get.
        """
        names = [f"{path}.{name}" if path else name for name in reading.used]
        path = ".".join(filter(None, (path, reading.inner)))
        converted = self.take_leaves(reading.tensors, names, reading.convention, path, reading.suffix, reading.extra)
        self.notes += [note.replace("{name}", printable(path) or "(top level)") for note in reading.notes]
        return converted

    def take_described(self, conventions: Mapping[str, Convention]) -> None:
        """Convert the modules whose form the file describes; those that do not fit go to ``misfits``."""
        modules: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for name in self.tensors:
            module, _, own = name.rpartition(".")
            match = _BY_ROLE.fullmatch(own) if module in conventions else None
            if match and match["role"] in (*ROLES, *_extra(conventions[module])):
                modules[module, match["suffix"]][match["role"]] = name
        for (module, suffix), names in modules.items():
            known = conventions[module]
            held = {role: self.tensors[name] for role, name in names.items()}
            extra = {role: held.pop(role) for role in _extra(known) if role in held}
            try:
                self.take_leaves(held, names.values(), known, module, suffix, extra)
                self.scopes[module] = None
            except UnfitError as error:
                self.misfits.append((module, f"recurrent, but {error}"))
                self.drop(names.values())

    def take_leaves(
        self,
        held: Mapping[str, Leaf],
        names: Iterable[str],
        known: Convention,
        path: str,
        suffix: str = "",
        extra: Mapping[str, Leaf] | None = None,
    ) -> ConvertedModule:
        """Bring tensors, given by role, under PyTorch's names in the module ``path``.

        Args:
            held: the tensors by role.
            names: the tensors of the file that they are made of, which are then accounted for.
            known: how the module is stored.
            path: of the module.
            suffix: the level and direction.
            extra: parameters beyond PyTorch's, by name.

        Raises:
            UnfitError: as ``take``.
        """
        converted = to_pytorch_layout(held, known, extra)
        new = {f"{path}.{own}{suffix}" if path else own + suffix: leaf for own, leaf in converted.parameters.items()}
        replaced = set(names)
        if any(name in self.tensors and name not in replaced for name in new):
            raise UnfitError(f"other tensors have the names {', '.join(new)}")
        self.drop(replaced)
        self.tensors |= new
        stated = self.facts.get(path, converted.facts)
        own = {name + suffix: leaf for name, leaf in converted.extra.items()}
        self.facts[path] = replace(
            converted.facts,
            class_path=stated.class_path,
            nonlinearity=converted.facts.nonlinearity or stated.nonlinearity,
            extra={**stated.extra, **own},
        )
        return converted

    def drop(self, names: Iterable[str]) -> None:
        """Leave out tensors that are accounted for elsewhere."""
        for name in names:
            self.tensors.pop(name, None)


def _extra(known: Convention) -> tuple[str, ...]:
    """The parameters beyond PyTorch's that a module of this convention may have."""
    return KINDS[known.kind].extra if known.kind in KINDS else ()
