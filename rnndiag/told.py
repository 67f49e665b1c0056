"""An error in somebody else's code, told in a line."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from rnndiag.printable import printable

MOST_SAID = 200
"""Characters of a message: some of torch's run on for pages."""

_LIBRARIES = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def told(error: BaseException) -> str:
    """``ValueError: 5 units, not 4 (model.py:12)``: kind, message, and the innermost place in the user's own files."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    line = printable(" ".join(said.split()), MOST_SAID)
    places = list(_places(error))
    where = f" ({places[-1]})" if places else ""
    return f"{type(error).__name__}{': ' if line else ''}{line}{where}"


def _places(error: BaseException) -> Iterator[str]:
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    for name, line in frames:
        file = Path(name)
        libraries = (*_LIBRARIES, Path(__file__).parent)
        if file.is_file() and not any(file.is_relative_to(library) for library in libraries):
            here = Path.cwd()
            yield f"{file.relative_to(here) if file.is_relative_to(here) else file}:{line}"
