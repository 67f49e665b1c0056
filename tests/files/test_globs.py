"""Patterns over names against fnmatch and lazy regular expressions, and how their work grows."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.files.globs import matches

NAMES = st.text("ab.-]![", max_size=8)


@given(NAMES, st.text("ab.*?[]!-", max_size=8))
def test_globs_match_what_fnmatch_matches(name: str, pattern: str) -> None:
    assert matches(name, pattern) == fnmatchcase(name, pattern)


@given(st.text("ab.", max_size=10), st.text("ab.*", min_size=1, max_size=8))
def test_stars_of_a_map_stand_for_what_lazy_groups_do(name: str, pattern: str) -> None:
    (pieces,) = {parse_map(f"hh={pattern},ih={pattern}").patterns["hh"]}
    lazy = re.compile("(.*?)".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch(name)
    found = pieces.match(name)
    assert (None if found is None else found.stars) == (None if lazy is None else lazy.groups())


@given(st.text("ifgo._", max_size=8))
def test_a_gate_is_one_of_its_letters(name: str) -> None:
    mapping = parse_map("hh=*.{gate}_*,ih=*_{gate}.*,cell=lstm")
    lazy = re.fullmatch(r"(.*?)\.(?P<gate>[ifgo])_(.*?)", name, re.DOTALL)
    found = mapping.patterns["hh"].match(name)
    assert (None if found is None else (*found.stars, found.named["gate"])) == (
        None if lazy is None else (lazy[1], lazy[3], lazy["gate"])
    )


@pytest.mark.parametrize("stars", [4, 8, 30])
def test_patterns_made_for_backtracking_end(stars: int) -> None:
    """Trying all choices would take longer than the age of the universe; one pass takes milliseconds."""
    name = "a" * 900
    pattern = "*a" * stars + "*b"
    mapping = parse_map(f"hh={pattern},ih={pattern}")
    for _ in range(600):
        assert mapping.patterns["hh"].match(name) is None
        assert not matches(name, pattern)
    assert not matches(name, "*?" * stars + "*[!a]")
