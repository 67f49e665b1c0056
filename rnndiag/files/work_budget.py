"""How much work one model may cause, however many files and pickles it consists of."""

from __future__ import annotations

import pickle
from contextvars import ContextVar, Token
from typing import Final

MAX_UNITS: Final = 4_000_000
"""Of half a microsecond or so, and of at most 80 bytes. A tensor takes some 90, a word of a vocabulary 5, so that a
training checkpoint of ten thousand parameters passes and no file takes more than a few seconds."""


class ExhaustedError(pickle.UnpicklingError):
    """More work than any model takes; the message says what to do."""


class WorkBudget:
    """What is left of the work; a context manager within which ``current`` gives this one."""

    def __init__(self, units: int = MAX_UNITS) -> None:
        self.left = units
        self._tokens: list[Token[WorkBudget | None]] = []

    def spend(self, units: int) -> None:
        """Take ``units`` off.

        Raises:
            ExhaustedError: nothing is left.
        """
        self.left -= units
        if self.left < 0:
            raise ExhaustedError(
                "more objects than any model needs: if it is one, save its state_dict alone, without the rest"
            )

    def __enter__(self) -> WorkBudget:
        self._tokens.append(_CURRENT.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._tokens.pop())


_CURRENT: ContextVar[WorkBudget | None] = ContextVar("budget", default=None)


def current_budget() -> WorkBudget:
    """The budget of the model that is being read; a full one if none is."""
    return _CURRENT.get() or WorkBudget()
