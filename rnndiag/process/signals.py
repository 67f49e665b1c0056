"""Makes SIGINT (Ctrl-C), SIGTERM and SIGHUP end the command within seconds, without leaving anything behind.

Most of the time the command has no results to lose: it runs its cleanups and exits at once, without a traceback, even
while Python imports modules. A ``Scope`` changes that if finished results must be written first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from rnndiag.process.cleanup import run_cleanups

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

EXIT_CODES: Final = {
    getattr(signal, name): code
    for name, code in {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}.items()
    if hasattr(signal, name)  # Windows has no SIGHUP
}
"""The exit codes that shells report for commands ended by a signal: 128 plus the signal's number."""

GRACE_SECONDS: Final = 3.0
"""The time that the main thread gets to end after a signal before a second thread ends the process. The main thread
answers within a few milliseconds, unless it is inside a long call into native code or waits for something that never
happens."""


class EndedBySignalError(BaseException):
    """The command must end now without writing results. It is not an ``Exception``, so other code does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = EXIT_CODES[number]


class Scope(Protocol):
    """A part of the command that decides itself what a signal does."""

    def receive(self, number: int) -> None:
        """Handle a signal in the main thread; it may raise."""

    def may_be_ended(self) -> bool:
        """Whether the process may end before the scope has ended; called ``GRACE_SECONDS`` after the first Ctrl-C."""


_scope: Scope | None = None
_answered = False
"""Whether a scope has received the first Ctrl-C."""
_atomic = False
_delayed: list[int] = []


def install() -> None:
    """Handle the signals that end this process. Signals that the caller ignores (``nohup``) stay ignored."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the caller closed it, and the pipe below would become a standard stream
            os.open(os.devnull, os.O_RDWR)
    handled = [number for number in EXIT_CODES if signal.getsignal(number) in _DEFAULTS]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in handled:
        signal.signal(number, handle)
    threading.Thread(target=_watch, args=(reader, handled), daemon=True).start()
    sys.unraisablehook = _report_unraisable


def uninstall() -> None:
    """Let the system end the process silently on a signal: the command has ended, and Python is about to exit."""
    for number in EXIT_CODES:
        if signal.getsignal(number) is handle:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def scope(inner: Scope) -> Iterator[None]:
    """Pass the signals to ``inner`` within the block.

    Nothing changes outside the main thread, or where the process ignores Ctrl-C or has its own handler for it.
    """
    global _scope
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before not in (handle, *_DEFAULTS):
        yield
        return
    outer, _scope = _scope, inner
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _scope = outer


@contextmanager
def atomic() -> Iterator[None]:
    """Delay signals to the end of the block.

    The block must take only milliseconds: a few renames, or the start of a process.
    """
    global _atomic
    outer, _atomic = _atomic, threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        _atomic = outer
        while _delayed and not outer:
            handle(_delayed.pop(0), None)


def handle(number: int, frame: FrameType | None) -> None:
    """Handle a signal, in the main thread."""
    del frame
    if _atomic:
        _delayed.append(number)
    elif _scope is None:
        end_now(number)
    else:
        global _answered
        _answered = True
        _scope.receive(number)


def end_now(number: int) -> NoReturn:
    """End the process with the exit code of a signal. Only the cleanups run."""
    run_cleanups()
    os._exit(EXIT_CODES[number])


def _watch(reader: int, handled: list[int]) -> None:
    """End the process if the main thread does not end it.

    Args:
        reader: a descriptor with the number of each signal as a byte, available even while the main thread is busy.
        handled: the signals to act on.
    """
    interrupted = False
    while True:
        number = os.read(reader, 1)[0]
        if number not in handled:
            continue
        first = number == signal.SIGINT and not interrupted
        interrupted = True
        timer = threading.Timer(GRACE_SECONDS, _end_unless_answered if first else end_now, (number,))
        timer.daemon = True
        timer.start()


def _end_unless_answered(number: int) -> None:
    if _scope.may_be_ended() if _scope is not None else not _answered:
        end_now(number)


def _report_unraisable(unraisable: UnraisableHookArgs) -> None:
    """Stay silent about a signal that arrived while Python ran a destructor or a callback."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt | EndedBySignalError):
        sys.__unraisablehook__(unraisable)


_DEFAULTS: Final = (signal.SIG_DFL, signal.default_int_handler)
