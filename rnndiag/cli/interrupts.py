"""Handles Ctrl-C while there are finished results, which are written before the command ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rnndiag.process import signals


class Interrupts:
    """What a signal does while models are measured.

    The first Ctrl-C raises KeyboardInterrupt where the command waits for a result (``waiting``). Elsewhere, it is
    remembered until the command waits again. A second Ctrl-C, SIGTERM and SIGHUP raise EndedBySignalError at once.
    """

    def __init__(self) -> None:
        self.asked = False
        """whether there was a Ctrl-C"""
        self.holds_results = False
        """whether there are results that the command writes when it ends"""
        self._waiting = self._raised = False

    def active(self) -> AbstractContextManager[None]:
        """Handle signals within the block."""
        return signals.scope(self)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Work that Ctrl-C may interrupt without losing a result.

        Raises:
            KeyboardInterrupt: at once for a Ctrl-C that is remembered.
        """
        self._waiting = True
        try:
            if self.asked:
                self._raise()
            yield
        finally:
            self._waiting = False

    def receive(self, number: int) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: for the first Ctrl-C, where the command waits.
            EndedBySignalError: for any other signal.
        """
        if self.asked or number != signal.SIGINT:
            raise signals.EndedBySignalError(number)
        self.asked = True
        if self._waiting:
            self._raise()

    def may_be_ended(self) -> bool:
        """Whether the command has no results to write, and was waiting when Ctrl-C came."""
        return not self.holds_results and (self._waiting or self._raised)

    def _raise(self) -> None:
        self._raised = True
        raise KeyboardInterrupt
