"""Texts that would do harm where they are printed, and checks on everything that rnndiag prints."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

EXAMPLES = (
    "::error::X",
    "  ::error file=a::X",
    "##[error]X",
    "a ##vso[task.complete result=Succeeded]X",
    "###[command]",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m\x90\x9d",
    "bell\x07back\x08del\x7f",
    "line\nfeed\r\n::error::two",
    "\u202etp.nekorb\u2066\u2069",
    "a\u200bb\ufeffc\u2028d\u2029e\xad",
    "\udcff\ud800",
    "=cmd|'/c calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "a;=1",
    '"=1',
    "<script>&amp;]]>`|*_",
    "Größe 重み 🎉",
    " ",
)

_PIECES = (
    "::",
    ":",
    "##",
    "#",
    "[",
    "vso[",
    "error",
    "=",
    "+",
    "-",
    "@",
    ";",
    ",",
    '"',
    "'",
    " ",
    "\t",
    "\r",
    "\n",
    "/",
)

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
"""Two surrogates in a row, which JSON cannot tell from the character that they spell in UTF-16."""

TEXTS = st.one_of(
    st.sampled_from(EXAMPLES),
    st.text(st.one_of(st.characters(), st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Zl", "Zp"])), max_size=12),
    st.lists(st.sampled_from([*_PIECES, *EXAMPLES]), max_size=6).map("".join),
).filter(lambda text: not _PAIR.search(text))

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def assert_safe(text: str, keep: str = "\n", *, commands: bool = False) -> None:
    """Check that a text has no invisible characters and no commands for CI systems, apart from intended commands."""
    unseen = {character for character in text if not character.isprintable() and character not in keep}
    assert not unseen, (unseen, text)
    for line in text.split("\n"):
        assert not re.search(r"##\w*\[", line), line
        assert commands or not line.lstrip().startswith("::"), line


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell == cell.strip()


def with_text(value: T, marker: str, text: str) -> T:
    """A copy of a tree of data in which ``text`` replaces every ``marker``."""
    return _with_text(value, marker, text)


def _with_text(value: Any, marker: str, text: str) -> Any:
    if isinstance(value, str):
        return value.replace(marker, text)
    if isinstance(value, tuple | list):
        return type(value)(_with_text(item, marker, text) for item in value)
    if isinstance(value, dict):
        return {_with_text(key, marker, text): _with_text(item, marker, text) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _with_text(getattr(value, f.name), marker, text) for f in fields(value)})
    return value
