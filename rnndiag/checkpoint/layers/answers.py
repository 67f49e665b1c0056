"""The answers of the user to what a file does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rnndiag.errors import SettingsError
from rnndiag.kinds import KINDS
from rnndiag.printable import printable

if TYPE_CHECKING:
    from rnndiag.checkpoint.contents import Nonlinearity
    from rnndiag.checkpoint.layers.mapping import RoleMap


@dataclass(frozen=True, slots=True)
class Answers:
    """What the user says about reading the layers of a file."""

    nonlinearity: Nonlinearity | None = None
    """Of cells without gates, where the file does not say; None: not said."""
    maps: tuple[RoleMap, ...] = ()
    """The roles of tensors whose names do not show their roles or show wrong ones."""
    assume: str | None = None
    """The kind of cell (a name in ``rnndiag.kinds``) that the user confirms; None: not said."""
    alpha: float | None = None
    """The leak of leaky cells, in (0, 1], where the file does not hold it; None: not said."""
    verify: bool = False
    """Whether the states of the layers are to be compared with those that the file's own library computes."""


NO_ANSWERS: Final = Answers()


def known_kind(name: str | None, where: str = "assume") -> str | None:
    """The name of a kind of cell, as it was given.

    Raises:
        SettingsError: there is no such kind; the message begins with ``where``.
    """
    known = [kind for kind in KINDS if kind != "custom"]
    if name is not None and name not in known:
        raise SettingsError(f"{where}: expected a kind of cell ({', '.join(known)}), got {printable(repr(name), 80)}")
    return name
