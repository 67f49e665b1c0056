r"""Text from outside, made safe to print.

Names of files, layers and tensors, options, addresses, reports of other people and messages of other libraries may hold
anything. Printed unchanged, they can control a terminal (control characters), make a text look like another text
(text-direction marks, invisible characters), break a line in two, or contain commands for programs that read the
output: CI systems read commands in the lines of a log, spreadsheets read formulas in the cells of a CSV file. Every
text format therefore prints what this module returns. A character that cannot be printed is written as Python writes
it: ``\x1b``, ``\u202e``.

JSON can represent every character by an escape, so the JSON formats contain the exact names (``json_text``).
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

T = TypeVar("T")

MAX_NAME = 300
"""The largest number of characters of a name in a message."""

MAX_WORD = 400
"""The largest number of characters of a word in an error message. A word is text without a space, such as a path."""

MAX_MESSAGE = 2000
"""The largest number of characters of an error message."""

_UNUSUAL = re.compile("[^ -~]")
_UNUSUAL_IN_LINES = re.compile("[^ -~\n]")

# Letters and marks that Unicode calls printable although they show nothing ("default ignorable"): they make two
# different names look the same.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# GitHub's runner obeys "::" where a line begins with it, after any spaces, and "##[" anywhere in a line (its source,
# ActionCommand.cs: TryParseV2 and TryParse). Azure Pipelines obeys "##vso[" and TeamCity "##teamcity[" likewise.
_COMMAND = re.compile(r"^([ \t]*):(?=:)|#(?=#\w*\[)", re.MULTILINE)

# Spreadsheets in languages with a decimal comma separate cells by semicolons. They also read full-width signs.
_FORMULA = re.compile("(^|[;\t])([ \t]*[=+@\uff1d\uff0b\uff0d\uff20-])")


def escaped(text: str, keep: str = "") -> str:
    r"""The text with every invisible character escaped, such as a line feed as ``\n``.

    Args:
        text: any text.
        keep: characters to leave as they are.
    """

    def written(found: re.Match[str]) -> str:
        character = found[0]
        return character if character in keep or _is_visible(character) else _escape(character)

    return _UNUSUAL.sub(written, text)


def printable(text: str, limit: int = MAX_NAME) -> str:
    """The text on one line, with every invisible character escaped, in at most ``limit`` characters."""
    # The first cut keeps the work small: a name may have millions of characters.
    return shortened(escaped(shortened(text, 2 * limit)), limit)


def shortened(text: str, limit: int) -> str:
    """The text if it has at most ``limit`` characters, else its beginning, ``…`` and its end."""
    if len(text) <= limit:
        return text
    end = (limit - 1) // 3
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"


def message_line(text: str) -> str:
    """An error message on one line, with long words and long messages shortened."""
    line = escaped(shortened(text.strip(), 10 * MAX_MESSAGE))
    return shortened(re.sub(rf"\S{{{MAX_WORD + 1},}}", lambda found: shortened(found[0], MAX_WORD), line), MAX_MESSAGE)


def without_commands(text: str) -> str:
    r"""Lines of a log in which no CI system finds a command: ``\x3a:`` for ``::``, ``\x23#[`` for ``##[``."""
    return _COMMAND.sub(lambda found: "\\x23" if found[0] == "#" else f"{found[1]}\\x3a", text)


def log_text(text: str) -> str:
    """Lines for a log: line feeds and tabs stay, and every other invisible character is escaped."""
    return without_commands(escaped(text, keep="\n\t"))


def escaped_strings(value: T) -> T:
    """A copy of a tree of dataclasses, tuples, lists and dicts in which each text is ``escaped``.

    Parts in which nothing changes are not copied.
    """
    return cast("T", _escaped_strings(value))


def _escaped_strings(value: Any) -> Any:
    if isinstance(value, str):
        text = escaped(value)
        return value if text == value else text
    if isinstance(value, tuple | list):
        if value and isinstance(value[0], float | int):  # a curve: thousands of numbers
            return value
        items = [_escaped_strings(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    if isinstance(value, dict):
        pairs = {_escaped_strings(key): _escaped_strings(item) for key, item in value.items()}
        same = all(a is b for a, b in zip(pairs, value, strict=False)) and len(pairs) == len(value)
        return value if same and all(pairs[key] is value[key] for key in value) else pairs
    if is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        new = {name: _escaped_strings(item) for name, item in old.items()}
        changed = {name: item for name, item in new.items() if item is not old[name]}
        return replace(value, **changed) if changed else value
    return value


def json_text(document: Any, *, indent: int | None = 2) -> str:
    r"""A JSON document that is safe to print and holds the exact texts.

    Invisible characters are written as ``\u202e``. So is the second ``#`` of ``##``, which begins commands of CI
    systems. A program that parses the document gets the characters themselves.
    """
    return json_escaped(json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False))


def json_escaped(text: str, *, ascii_only: bool = False) -> str:
    r"""The same JSON document with invisible characters, or all non-ASCII characters, as ``\u`` escapes."""

    def written(found: re.Match[str]) -> str:
        character = found[0]
        return character if not ascii_only and _is_visible(character) else json.dumps(character)[1:-1]

    # Outside of strings, JSON has no "#" and no character beyond ASCII.
    return _UNUSUAL_IN_LINES.sub(written, text).replace("##", "#\\u0023")


def csv_line(cells: list[Any]) -> str:
    """A line of CSV (RFC 4180) that no spreadsheet reads as a formula and no CI system reads as a command.

    Numbers are written as they are, None as an empty cell. A text that begins like a formula gets an apostrophe in
    front, which tells spreadsheets that the cell is text.
    """
    return ",".join(map(_csv_cell, cells)) + "\n"


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, int | float) or text in ("inf", "-inf", "nan"):
        return text
    text = _FORMULA.sub(r"\1'\2", without_commands(escaped(text)))
    # Space at an edge is part of the text.
    return '"' + text.replace('"', '""') + '"' if re.search('[,;"]|^ | $', text) else text


def _is_visible(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)


def _escape(character: str) -> str:
    return ascii(character)[1:-1]
