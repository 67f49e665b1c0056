"""Printed text from outside: every character is visible, it fits on one line, and it contains no commands."""

from __future__ import annotations

import csv
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.errors import CheckpointError
from rnndiag.printable import (
    MAX_MESSAGE,
    MAX_WORD,
    csv_line,
    escaped,
    escaped_strings,
    json_escaped,
    json_text,
    log_text,
    message_line,
    printable,
    shortened,
    without_commands,
)
from tests.builders.hostile_text import FORMULA_STARTS, TEXTS, assert_safe, is_number

CONTROL = "".join(map(chr, (*range(32), *range(127, 160))))
FORMAT = (
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202d\u202e\u2060\u2066\u2067\u2069\ufeff\u061c\u00ad\u2028\u2029\U000e0001"
)
INVISIBLE = "\u3164\u115f\u1160\uffa0\u034f\ufe0f\U000e0100"
SURROGATES = "\ud800\udcff\udfff"


@pytest.mark.parametrize("character", [*CONTROL, *FORMAT, *INVISIBLE, *SURROGATES], ids=ascii)
def test_what_cannot_be_seen_is_written_out(character: str) -> None:
    shown = escaped(f"a{character}b")
    assert shown == f"a{character.encode('unicode_escape').decode()}b"
    assert shown.isascii()
    assert unicodedata.category(character) not in {unicodedata.category(each) for each in shown}


def test_what_can_be_seen_stays() -> None:
    for text in ("Größe 重み 🎉", "a b\\c | % ::x ##[y", "C:\\models\\a.pt"):
        assert escaped(text) == text


@given(TEXTS)
def test_escaping_twice_changes_nothing(text: str) -> None:
    shown = escaped(text)
    assert escaped(shown) == shown
    assert shown.isprintable()
    assert log_text(log_text(text)) == log_text(text)


@given(TEXTS, st.integers(10, 60))
def test_a_name_has_a_limit_and_keeps_both_ends(text: str, limit: int) -> None:
    shown = printable(text * 40, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert shortened("a" * 100 + "z", 30) == "a" * 20 + "…" + "a" * 8 + "z"


@given(TEXTS)
def test_a_message_is_one_line_of_limited_length(text: str) -> None:
    for each in (text, f"{text}: expected {text * 300}", "x" * 100_000, "a b " * 50_000):
        shown = str(CheckpointError(each))
        assert shown == message_line(each) == message_line(shown)
        assert shown.isprintable()
        assert len(shown) <= MAX_MESSAGE
        assert all(len(word) <= MAX_WORD for word in shown.split(" "))


@given(TEXTS, TEXTS)
def test_no_line_of_a_log_is_a_command(one: str, two: str) -> None:
    assert_safe(log_text(f"{one}\n{two}\n"), keep="\n\t")


@pytest.mark.parametrize(
    "line", ["::error::x", "  ::error::x", "\t::add-mask::x", "##[error]x", "a ##[group]x", "##vso[task.logissue]x"]
)
def test_commands_of_runners_are_spelled_otherwise(line: str) -> None:
    assert without_commands(line) != line
    assert_safe(without_commands(f"first\n{line}\n"), keep="\n\t")
    assert without_commands("a::b, # [c] ## d, C++::x") == "a::b, # [c] ## d, C++::x"


@given(st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2), max_size=3))
def test_json_is_safe_and_the_same_document(document: dict[str, list[str]]) -> None:
    for text in (json_text(document), json_escaped(json_text(document), ascii_only=True)):
        assert_safe(text)
        assert json.loads(text) == document
    assert json_escaped(json_text(document), ascii_only=True).isascii()


@given(st.lists(st.one_of(TEXTS, st.integers(), st.floats(), st.none()), min_size=2, max_size=4))
def test_no_cell_of_csv_is_a_formula(cells: list[object]) -> None:
    line = csv_line(cells)
    assert_safe(line)
    assert line.count("\n") == 1
    for separator in ",;":  # as spreadsheets of some languages split it
        shown = next(csv.reader([line.rstrip("\n")], delimiter=separator))
        for cell in shown[isinstance(cells[0], int | float) and separator == ";" :]:
            assert is_number(cell) or not cell.lstrip().startswith(FORMULA_STARTS), (line, cell)
    read = next(csv.reader([line.rstrip("\n")]))
    assert len(read) == len(cells)
    for cell, shown in zip(cells, read, strict=True):
        if isinstance(cell, int):
            assert int(shown) == cell


def test_only_what_changes_is_copied() -> None:
    sound, curve = ("a", {"b": 1.0}), (0.5, 1.5)
    tree = {"names": sound, "curve": curve, "bad": ["x\x1b"]}
    shown = escaped_strings(tree)
    assert shown == {"names": sound, "curve": curve, "bad": ["x\\x1b"]}
    assert shown["names"] is sound
    assert shown["curve"] is curve
    assert escaped_strings(sound) is sound
