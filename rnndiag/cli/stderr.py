"""The lines on stderr about what failed, and about what deserves attention."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from rnndiag.cli.streams import say, say_lines
from rnndiag.errors import ModelError, RnndiagError

if TYPE_CHECKING:
    from rnndiag.fleet.job import Failure


def print_failure(failure: Failure, *, verbose: bool) -> None:
    """Print why a path has no report; with ``verbose``, its traceback comes first."""
    if verbose and failure.trace:
        say_lines(failure.trace)
    print_error(failure.message)


def print_exception(error: RnndiagError, *, verbose: bool) -> None:
    """Print an error; with ``verbose``, the traceback of the user's own code comes first if that code raised it."""
    if verbose:
        say_lines(user_traceback(error))
    print_error(str(error))


def print_error(message: str) -> None:
    """Print one line on stderr, whatever the message contains."""
    say(message, "error")


def print_warning(message: str) -> None:
    """Print one line on stderr about something that still works but will stop working in a later release."""
    say(message, "warning")


def print_note(message: str) -> None:
    """Print one line on stderr that is not an error."""
    say(message, "note")


def user_traceback(error: RnndiagError) -> str:
    """The traceback of the user's own code; empty if that code did not raise the error."""
    if not isinstance(error, ModelError) or error.__cause__ is None:
        return ""
    return "".join(traceback.format_exception(error.__cause__))
