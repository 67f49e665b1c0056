"""Tanh or relu: weights do not tell, so what does, in which order, and what the reader is told."""

from __future__ import annotations

from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from rnndiag.files.text import listing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rnndiag.checkpoint.contents import Nonlinearity

    Statements: TypeAlias = Sequence[tuple[str, Nonlinearity]]


class Choice:
    """Answers for each plain recurrent module of a file, and remembers why.

    The pickled module itself comes first, then the user, then a setting elsewhere in the file, then the default of
    the library, which is tanh for PyTorch.

    Args:
        asked: the user's answer.
        statements: where settings of the file name a nonlinearity, and which.
        by_file: the same for each file of an archive; settings of one file say nothing about the others.
    """

    def __init__(
        self,
        asked: Nonlinearity | None,
        statements: Statements,
        by_file: Mapping[str, Statements] = MappingProxyType({}),
    ) -> None:
        self.asked = asked
        """The user's answer."""
        self._statements, self._by_file = statements, by_file
        self._overruled: list[str] = []
        self._stated: defaultdict[tuple[Nonlinearity, str], list[str]] = defaultdict(list)
        self._assumed: defaultdict[tuple[Nonlinearity, str], list[str]] = defaultdict(list)

    def of(
        self, name: str, pickled: Nonlinearity | None, likely: Nonlinearity = "tanh", file: str = ""
    ) -> tuple[Nonlinearity, bool]:
        """The nonlinearity of the module ``name``, and whether it is an assumption (``likely``).

        Args:
            name: the module.
            pickled: what the file says of this module.
            likely: what is assumed if nothing says more.
            file: the file of an archive in which the module is.
        """
        if pickled is not None:
            if self.asked not in (None, pickled):
                self._overruled.append(name)
            return pickled, False
        if self.asked is not None:
            return self.asked, False
        statements = self._by_file.get(file, self._statements)
        where = listing([place for place, _ in statements], 3)
        values = {value for _, value in statements}
        if len(values) == 1:
            (stated,) = values
            self._stated[stated, where].append(name)
            return stated, False
        why = f"the file names both tanh and relu ({where})" if where else "the file does not say"
        self._assumed[likely, why].append(name)
        return likely, True

    @property
    def notes(self) -> tuple[str, ...]:
        """What the answers given so far rest on, one sentence each."""
        notes = []
        if self._overruled:
            names = listing(self._overruled)
            notes.append(f"{self.asked} was asked for, but the pickled modules say otherwise: {names}")
        for (stated, where), modules in self._stated.items():
            notes.append(f"{stated} was taken for {listing(modules)}: the file says so in {where}")
        for (assumed, why), modules in self._assumed.items():
            other = "relu" if assumed == "tanh" else "tanh"
            notes.append(f"{assumed} was assumed for {listing(modules)}: {why}; --nonlinearity {other} changes it")
        return tuple(notes)
