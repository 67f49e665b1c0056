"""The leak ``alpha`` of leaky layers: from the file where it is there, else the number that the user gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch

from rnndiag.checkpoint.layers.leaves import constant
from rnndiag.checkpoint.layers.shapes import PARAMETER
from rnndiag.errors import SettingsError, UnfitError
from rnndiag.files.text import listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnndiag.checkpoint.contents import Leaf, ModuleFacts
    from rnndiag.checkpoint.layers.shapes import RecurrentModule

NO_LEAK: Final = (
    "its leak alpha is not in the file: give the number with --alpha (for example --alpha 0.2; dt/tau of a "
    "continuous-time net)"
)
RANGE: Final = "a number above 0 and at most 1"


def checked_alpha(alpha: float | None, where: str = "alpha") -> float | None:
    """The leak that a user gave, as it was given.

    Raises:
        SettingsError: it is not in (0, 1]; the message begins with ``where``.
    """
    if alpha is not None and not 0 < alpha <= 1:
        raise SettingsError(f"{where}: expected {RANGE}, got {alpha:g}")
    return alpha


@dataclass(slots=True)
class Leaks:
    """Gives each leaky module its leak, and remembers where the user's number did not count."""

    asked: float | None
    """The user's number for all modules whose file does not hold a leak."""
    traced: bool
    """Whether the tensors hold addresses in place of numbers."""
    overruled: list[str] = field(default_factory=list)
    """The modules whose file holds a leak although the user gave a number."""

    def completed(self, name: str, facts: ModuleFacts, parameters: Mapping[str, Leaf]) -> Mapping[str, Leaf]:
        """The extra parameters of a leaky module, with the user's number where the file holds no leak.

        Raises:
            UnfitError: neither the file nor the user says it.
        """
        given = self.asked if facts.alpha is None else facts.alpha
        extra = dict(facts.extra)
        for parameter in parameters:
            match = PARAMETER.fullmatch(parameter)
            if match is None or match["kind"] != "weight_hh":
                continue
            own = "alpha" + parameter.removeprefix("weight_hh")
            if own in extra:
                self.overruled += [name] if given is not None and name not in self.overruled else []
            elif given is None:
                raise UnfitError(NO_LEAK)
            else:
                extra[own] = constant(1, given, torch.float64)
        return extra

    def check(self, module: RecurrentModule) -> None:
        """Refuse a leak that is out of range.

        Raises:
            UnfitError: with the first such number.
        """
        for alpha in (slot["alpha"] for level in module.levels for slot in level if "alpha" in slot):
            outside = alpha[~((alpha > 0) & (alpha <= 1))]
            if outside.numel() and not self.traced:
                raise UnfitError(f"its leak alpha is {float(outside[0]):g}: expected {RANGE}")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the leaks, one sentence each."""
        if not self.overruled:
            return ()
        return (f"alpha {self.asked or 0:g} was asked for, but the file holds the leak of {listing(self.overruled)}",)
