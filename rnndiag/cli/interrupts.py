"""Ctrl-C where nothing is in hand: results that have come are written before it is heeded."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Within the block an interrupt is raised where something is waited for, ``waiting``, and is remembered elsewhere.

    A second one is raised wherever it comes. Where the process has been told to ignore interrupts, or has a way of its
    own with them, or this is not its main thread, nothing changes.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._asked = False

    def __enter__(self) -> Interrupts:
        """Begin to remember them."""
        ours = threading.current_thread() is threading.main_thread()
        self._ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them to Python again."""
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What may be interrupted, as nothing is lost by it.

        Raises:
            KeyboardInterrupt: at once for one that is remembered.
        """
        self._waiting = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._waiting or self._asked:
            raise KeyboardInterrupt
        self._asked = True
