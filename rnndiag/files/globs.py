"""Matches patterns over names without backtracking, in time proportional to at most name length times pattern length.

A pattern is a sequence of pieces between its stars. Each piece matches texts of one length only, so the leftmost place
of a piece leaves the most room to the pieces after it: if any choice of places matches, the leftmost one does. One pass
over the name finds these places. A regular expression with several ``.*`` may instead try a number of choices that
grows as the length of the name to the power of the number of stars.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Match:
    """How a pattern matches a name."""

    stars: tuple[str, ...]
    """the text that each star stands for, as short as possible"""
    named: dict[str, str]
    """the text of each named group of the pieces"""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A pattern as the regular expressions between its stars. Each expression matches texts of one length only."""

    between: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, sources: Sequence[str]) -> Pieces:
        """Create a pattern from the source of each piece; there is one star between two pieces."""
        return cls(tuple(re.compile(source, re.DOTALL) for source in sources))

    def match(self, name: str) -> Match | None:
        """How the whole name matches; None if it does not."""
        first, *rest = self.between
        found = first.match(name) if rest else first.fullmatch(name)
        if found is None:
            return None
        named, stars, end = found.groupdict(), [], found.end()
        for piece in rest[:-1]:
            found = piece.search(name, end)
            if found is None:
                return None
            stars.append(name[end : found.start()])
            named |= found.groupdict()
            end = found.end()
        if rest:
            found = _at_end(rest[-1], name, end)
            if found is None:
                return None
            stars.append(name[end : found.start()])
            named |= found.groupdict()
        return Match(tuple(stars), named)


def _at_end(piece: re.Pattern[str], name: str, start: int) -> re.Match[str] | None:
    length = _length(piece.pattern)
    return piece.fullmatch(name, len(name) - length) if start + length <= len(name) else None


@lru_cache(maxsize=1024)
def _length(source: str) -> int:
    """Characters that a piece matches."""
    return sum(1 for _ in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|[^()]", re.sub(r"\(\?P<\w+>", "(", source), re.DOTALL))


def matches(name: str, pattern: str) -> bool:
    """Whether a name matches a glob of ``*``, ``?``, ``[abc]``, ``[a-z]`` and ``[!a]``."""
    return _glob(pattern).match(name) is not None


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> Pieces:
    sources = [""]
    index = 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character == "*":
            sources.append("")
        elif character == "?":
            sources[-1] += "."
        elif character == "[" and (end := _end_of_set(pattern, index)):
            sources[-1] += _set(pattern[index:end])
            index = end + 1
        else:
            sources[-1] += re.escape(character)
    return Pieces.of(sources)


def _end_of_set(pattern: str, start: int) -> int:
    """The index of the closing bracket of a set that starts at ``start``; 0 if none closes. A set is never empty."""
    first = start + (pattern[start : start + 1] == "!")
    return max(pattern.find("]", first + 1), 0)


def _set(body: str) -> str:
    """The regular expression of a set: characters, and ranges of them, after a ``!`` all others."""
    negated, characters = body.startswith("!"), body.removeprefix("!")
    parts, index = [], 0
    while index < len(characters):
        low, high = characters[index], characters[index]
        if characters[index + 1 : index + 2] == "-" and index + 2 < len(characters):
            high = characters[index + 2]
            index += 2
        index += 1
        if low <= high:  # a range that runs backwards is empty
            parts.append(f"\\U{ord(low):08x}-\\U{ord(high):08x}")
    if not parts:
        return "." if negated else r"[^\s\S]"
    return f"[{'^' if negated else ''}{''.join(parts)}]"
