"""Tanh or relu: weights do not tell, so what does, in which order, and what the reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnndiag.files.text import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.checkpoint.contents import Nonlinearity


class Choice:
    """Answers for each plain recurrent module of a file, and remembers why.

    The pickled module itself comes first, then the user, then a setting elsewhere in the file, then the default of
    the library, which is tanh for PyTorch.

    Args:
        asked: the user's answer.
        statements: where settings of the file name a nonlinearity, and which.
    """

    def __init__(self, asked: Nonlinearity | None, statements: Sequence[tuple[str, Nonlinearity]]) -> None:
        self.asked = asked
        """The user's answer."""
        self._statements = statements
        values = {value for _, value in statements}
        self._stated = values.pop() if len(values) == 1 else None
        self._overruled: list[str] = []
        self._by_file: list[str] = []
        self._assumed: dict[Nonlinearity, list[str]] = {}

    def of(self, name: str, pickled: Nonlinearity | None, likely: Nonlinearity = "tanh") -> tuple[Nonlinearity, bool]:
        """The nonlinearity of the module ``name``, and whether it is an assumption (``likely``)."""
        if pickled is not None:
            if self.asked not in (None, pickled):
                self._overruled.append(name)
            return pickled, False
        if self.asked is not None:
            return self.asked, False
        if self._stated is not None:
            self._by_file.append(name)
            return self._stated, False
        self._assumed.setdefault(likely, []).append(name)
        return likely, True

    @property
    def notes(self) -> tuple[str, ...]:
        """What the answers given so far rest on, one sentence each."""
        where = listing([place for place, _ in self._statements], 3)
        notes = []
        if self._overruled:
            names = listing(self._overruled)
            notes.append(f"{self.asked} was asked for, but the pickled modules say otherwise: {names}")
        if self._by_file:
            notes.append(f"{self._stated} was taken for {listing(self._by_file)}: the file says so in {where}")
        why = f"the file names both tanh and relu ({where})" if where else "the file does not say"
        for assumed, modules in self._assumed.items():
            other = "relu" if assumed == "tanh" else "tanh"
            notes.append(f"{assumed} was assumed for {listing(modules)}: {why}; --nonlinearity {other} changes it")
        return tuple(notes)
