"""The one family of errors that a user may see.

Every message is one line that says what was expected, what was found, where, and what to do.
The command line prints it after ``rnndiag: error:`` and exits with the class's ``exit_code``.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from rnndiag.printable import message_line, printable


class RnndiagError(Exception):
    """Base of every error rnndiag raises on purpose; ``exit_code`` is the process's.

    The message is safe to print and has one line of limited length, whatever names and values it contains.
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(message_line(message))


class CheckpointError(RnndiagError):
    """A file that could not be read, was refused, or holds no recurrent layer."""


class NotAModelError(CheckpointError):
    """A file that is not a model, which a search through a folder skips with a note.

    Args:
        path: the path of the file.
        reason: what the file holds.
        message: what the error says after the path; by default, the reason and what to do.
        is_doubtful: whether the file may still hold a model. Only a search skips such a file, and only if the file is
            not named like a model; otherwise, training wrote the file next to a model, such as optimizer state.
    """

    def __init__(self, path: str, reason: str, *, message: str = "", is_doubtful: bool = False) -> None:
        self.reason, self.is_doubtful = reason, is_doubtful
        self._said = message or f"{reason}: the file holds no recurrent layer to measure; name the file of the model"
        super().__init__(f"{path}: {self._said}")

    def of(self, path: str) -> NotAModelError:
        """The same error about a path that leads to the file."""
        return NotAModelError(path, self.reason, message=self._said, is_doubtful=self.is_doubtful)


class UnfitError(Exception):
    """Something that looks like a recurrent layer and cannot be measured; the message is the reason."""


class UnreadableError(Exception):
    """Stored numbers that are not read; the message is the reason."""


class ModelError(RnndiagError):
    """A module or step function given from Python that cannot be measured, or the code that should make one."""


class ProbeError(RnndiagError):
    """A probe that cannot be built or does not fit the layer it should drive."""


class SettingsError(RnndiagError):
    """An option or a setting outside its range, or one that contradicts another."""


class ConfigError(RnndiagError):
    """A config file that cannot be read, or holds what it should not."""


class BaselineError(RnndiagError):
    """A report kept for comparison that cannot be read, or is of another model or measurement."""


class OutputError(RnndiagError):
    """A result that could not be written where it was asked for."""


class FleetError(RnndiagError):
    """A cluster that cannot be reached, or that has gone."""


MAX_DESCRIPTION = 200
"""The largest number of characters of a described message; some messages of torch fill pages."""


def describe_error(error: BaseException) -> str:
    """``ValueError: 5 units, not 4 (model.py:12)``: kind, message, and the innermost place in the user's own files."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    line = printable(" ".join(message.split()), MAX_DESCRIPTION)
    places = list(_places(error))
    where = f" ({places[-1]})" if places else ""
    return f"{type(error).__name__}{': ' if line else ''}{line}{where}"


def _places(error: BaseException) -> Iterator[str]:
    libraries = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries.append(Path(__file__).parent)
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    for name, line in frames:
        file = Path(name)
        if file.is_file() and not any(file.is_relative_to(library) for library in libraries):
            here = Path.cwd()
            yield f"{file.relative_to(here) if file.is_relative_to(here) else file}:{line}"
