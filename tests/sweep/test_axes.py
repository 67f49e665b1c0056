"""Axes from their text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.errors import SettingsError
from rnndiag.sweep.axes import conditions, parse_axes, parse_axis, varying, with_length


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("sigma", "1.2", (1.2,)),
        ("input_scale", "0,0.1,1", (0.0, 0.1, 1.0)),
        ("sigma", "0.5:1:6", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("bias_scale", "0.01:1:3log", (0.01, 0.1, 1.0)),
        ("hidden", "16:128:4log", (16, 32, 64, 128)),
        ("length", "10:12:9", (10, 11, 12)),
        ("cell", "gru,lstm", ("gru", "lstm")),
        ("init", "orthogonal", ("orthogonal",)),
    ],
)
def test_values(name: str, text: str, values: tuple[object, ...]) -> None:
    assert parse_axis(name, text) == values


@given(st.floats(0.01, 10), st.floats(1.001, 100), st.integers(2, 50), st.booleans())
def test_a_range_holds_both_ends_and_even_steps(start: float, factor: float, count: int, log: bool) -> None:
    stop = start * factor
    values = [float(v) for v in parse_axis("sigma", f"{start!r}:{stop!r}:{count}{'log' * log}")]
    assert (len(values), values[0], values[-1]) == (count, pytest.approx(start), pytest.approx(stop))
    scaled = [math.log(v) if log else v for v in values]
    steps = [b - a for a, b in pairwise(scaled)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("sigma", "0.5:3", "--sigma: expected a number, a list 0,0.1,1 or a range 0.5:3:26"),
        ("sigma", "", "got ''"),
        ("sigma", "a:3:4", "got 'a'"),
        ("sigma", "1,nan", "got 'nan'"),
        ("sigma", "3:1:4", "expected a range that rises, got 3 to 1"),
        ("sigma", "0:1:4log", "logarithmic range above 0"),
        ("sigma", "0:1:1", "from 2 to 10000 values, got 1"),
        ("sigma", "1,1.0", "expected values that differ, got 1.0 twice"),
        ("hidden", "12.5", "expected a whole number"),
        ("cell", "tanh,rnn", "expected one or more of tanh, relu, gru, lstm, got 'rnn'"),
        ("init", "uniform", "--init: expected one or more of gaussian, xavier"),
        ("cell", "a:b:3", "got a range"),
    ],
)
def test_what_does_not_parse_is_told_in_one_line(name: str, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as told:
        parse_axis(name, text)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_third_varying_axis_is_refused() -> None:
    with pytest.raises(SettingsError, match="at most 2 axes that vary, got --input-scale, --hidden, --sigma"):
        parse_axes({"sigma": "1:2:3", "hidden": (8, 16), "input_scale": (0, 1)})


def test_sigma_varies_where_nothing_else_does() -> None:
    assert varying(parse_axes({})) == ["sigma"]
    assert parse_axes({"hidden": [8, 16]})["sigma"] == (1.0,)
    assert "sigma" not in parse_axes({"init": "orthogonal"})
    with pytest.raises(SettingsError, match="got 'depth'"):
        parse_axes({"depth": 3})


def test_the_grid_is_the_product_with_the_last_axis_fastest() -> None:
    grid = list(conditions(with_length(parse_axes({"sigma": (1, 2), "input_scale": (3, 4)}), 5)))
    assert [(dict(c)["sigma"], dict(c)["input_scale"]) for c in grid] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert {dict(c)["length"] for c in grid} == {5}
