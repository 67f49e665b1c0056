"""The table of a config file in TOML, with limits on nesting and on the size of numbers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from rnndiag.errors import ConfigError
from rnndiag.files.side_files import deep_position, position

MAX_DEPTH = 32
"""The largest number of levels of nesting, and of parts of a dotted TOML key. A config needs five."""

MAX_INTEGER = 2**63 - 1

WHOLE_NUMBER = "a whole number below 2^63"
"""The description of an expected integer in an error message."""

_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_DEEP_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*){{{MAX_DEPTH}}}")
_LONG_NUMBER = re.compile(r"(?<!\d)[\d_]{4301}")
"""A number with more digits than Python converts (4,300)."""


def toml_tree(path: Path, text: str) -> dict[str, Any]:
    """The table of a TOML text.

    Raises:
        ConfigError: naming the line and the column.
    """
    deep = _DEEP_KEY.search(text)  # the parser's time grows with the square of a key's parts
    if deep is not None:
        raise ConfigError(
            f"{path}: not valid for rnndiag at {position(text, deep.start())}: a key of more than {MAX_DEPTH} parts"
        )
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path}: not valid TOML at {deep_position(text, MAX_DEPTH)}: "
            f"expected at most {MAX_DEPTH} levels of nesting"
        ) from error
    except ValueError as error:
        long = _LONG_NUMBER.search(text)
        where = "" if long is None else f" at {position(text, long.start())}"
        raise ConfigError(f"{path}: not valid TOML{where}: expected {WHOLE_NUMBER}") from error
    return tree


def check_integers(path: Path, place: str, value: Any) -> None:
    """Refuse integers that are too large for any setting. Python cannot even print integers of thousands of digits.

    Raises:
        ConfigError: naming the key.
    """
    todo = [(place, value)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, dict):
            todo += [(f"{place}.{key}", each) for key, each in value.items()]
        elif isinstance(value, list):
            todo += [(place, each) for each in value]
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise ConfigError(f"{path}: at {place}: expected {WHOLE_NUMBER}, got a larger number")
