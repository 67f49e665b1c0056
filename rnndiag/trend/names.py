"""Numbers in the names of checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from rnndiag.checkpoint.formats.registry import SUFFIXES
from rnndiag.checkpoint.unpickling.training_step import MAX_COUNT

_DIGITS: Final = r"(\d+(?:\.\d+)?)([kKM](?![a-zA-Z]))?"
_NUMBER: Final = re.compile(_DIGITS)
_WORDS: Final = {
    "step": re.compile(rf"(?i:(?:step|iteration|iter|update)s?[-_=. ]*){_DIGITS}"),
    "epoch": re.compile(rf"(?i:epochs?[-_=. ]*){_DIGITS}"),
}
_UNIT: Final = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
_DROPPED: Final = (*SUFFIXES, ".bz2")
"""Suffixes of formats, some of which hold a digit. Any other may be the count: ``model.ckpt-900``."""


def telling(paths: Sequence[PurePath]) -> list[str]:
    """The last part of each path that is not the same in all: a folder's name where the files' are alike."""
    depth = min(len(path.parts) for path in paths)
    for back in range(1, depth + 1):
        names = [path.parts[-back] for path in paths]
        if len(set(names)) > 1:
            return [_bare(name) for name in names]
    return [_bare(path.name) for path in paths]


def worded(names: Sequence[str]) -> dict[str, list[float | None]]:
    """The last number after a word for steps, and after one for epochs, in each name; ``10k`` is 10000.

    Words that no name has are not there.
    """
    found = {word: [_value(list(pattern.finditer(name))) for name in names] for word, pattern in _WORDS.items()}
    return {word: values for word, values in found.items() if any(value is not None for value in values)}


def numbered(names: Sequence[str]) -> list[list[float | None]] | None:
    """The numbers of each name that are not the same in all, where names differ in numbers alone.

    Names that differ in more have one number each, or none is the same in the other: None.
    """
    matches = [list(_NUMBER.finditer(name)) for name in names]
    if len({_NUMBER.sub("0", name) for name in names}) == 1:
        columns = list(zip(*matches, strict=True))
        vary = [column for column in columns if len({match[0] for match in column}) > 1] or columns[-1:]
        return [[_value([column[i]]) for column in vary] for i in range(len(names))]
    if any(len(each) > 1 for each in matches):
        return None
    return [[_value(each)] for each in matches]


def natural(path: str) -> tuple[tuple[str, float], ...]:
    """A key under which numbers within names sort as numbers."""
    pieces = re.split(r"(\d+)", path)
    words, digits = pieces[::2], [*pieces[1::2], "0"]
    return tuple((word, float(digit)) for word, digit in zip(words, digits, strict=True))


def _bare(name: str) -> str:
    while name.lower().endswith(_DROPPED):
        name = PurePath(name).stem if PurePath(name).suffix else ""
    return name


def _value(matches: Sequence[re.Match[str]]) -> float | None:
    if not matches:
        return None
    value = float(matches[-1][1]) * _UNIT[matches[-1][2] or ""]
    return value if value <= MAX_COUNT else None
