"""The robust line and the exact test, against enumeration and closed forms."""

from __future__ import annotations

import math
from itertools import permutations
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.measures import drift as module
from rnndiag.measures.drift import drift, fewest, p_drift, p_rising
from rnndiag.measures.series import Series


def series(*values: float) -> Series:
    return Series(tuple(float(i) for i in range(len(values))), values)


def score(values: tuple[float, ...]) -> int:
    return sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])


@pytest.mark.parametrize(
    "values", [(1, 2, 3, 4, 5), (1, 1, 2, 3, 3, 3), (0, 0, 0, 0, 1), (2, 2, 2, 2), (5, 1, 4, 1, 3, 2)]
)
def test_the_p_value_is_that_of_all_orders(values: tuple[float, ...]) -> None:
    scores = [score(order) for order in permutations(values)]
    ties = [values.count(value) for value in set(values)]
    for each in set(scores):
        assert p_rising(each, ties) == pytest.approx(sum(s >= each for s in scores) / len(scores), rel=1e-12)


def test_the_normal_approximation_continues_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [p_rising(s, [1] * 40) for s in range(0, 780, 20)]
    monkeypatch.setattr(module, "EXACT", 0)
    for s, expected in zip(range(0, 780, 20), exact, strict=True):
        assert p_rising(s, [1] * 40) == pytest.approx(expected, abs=2e-3)


def test_fewest_is_the_first_length_whose_best_p_value_suffices() -> None:
    for level in (0.5, 0.05, 0.01, 0.002, 1e-4):
        n = fewest(level)
        assert p_rising(n * (n - 1) // 2, [1] * n) <= level
        assert n == 2 or p_rising((n - 1) * (n - 2) // 2, [1] * (n - 1)) > level


@given(st.floats(-3, 3), st.floats(-5, 5), st.integers(5, 20), st.floats(-100, 100).filter(lambda t: abs(t) > 1e-3))
def test_a_straight_line_is_found_exactly(slope: float, base: float, n: int, threshold: float) -> None:
    found = drift(series(*(base + slope * i for i in range(n))))
    assert found.slope == pytest.approx(slope, abs=1e-9)
    assert found.last == pytest.approx(base + slope * (n - 1), abs=1e-8)
    if abs(slope) > 1e-6:
        crossing = (threshold - base) / slope
        if crossing > n - 1 + 1e-6:
            assert found.crosses(threshold) == pytest.approx(crossing, rel=1e-4)
        elif crossing < n - 1 - 1e-6:
            assert found.crosses(threshold) == math.inf


@given(st.lists(st.floats(-10, 10), min_size=9, max_size=15), st.floats(0.5, 2), st.integers(0, 8))
def test_a_wild_value_moves_nothing(noise: list[float], slope: float, at: int) -> None:
    straight = [slope * i for i in range(len(noise))]
    wild = [*straight]
    wild[at] = 1e6
    assert drift(series(*wild)).slope == pytest.approx(slope, rel=0.35)


@given(st.permutations(range(8)))
def test_rising_and_falling_mirror(order: list[int]) -> None:
    up, down = drift(series(*map(float, order))), drift(series(*(-float(v) for v in order)))
    assert (up.p_rising, up.p_falling) == (down.p_falling, down.p_rising)
    assert up.slope == pytest.approx(-down.slope)
    low, high = up.slope_interval
    assert low <= up.slope <= high


def test_checkpoints_of_one_step_count_as_one() -> None:
    twice = Series((1.0, 2.0, 2.0, 2.0, 3.0, 4.0), (1.0, 0.0, 2.0, 9.0, 3.0, 4.0))
    assert drift(twice) == drift(Series((1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e3, 1e3) | st.integers(-2, 2).map(float), min_size=2, max_size=45), st.booleans())
def test_the_line_and_the_score_are_those_of_all_pairs(values: list[float], even: bool) -> None:
    """The naive twin: every pair, one by one."""
    steps = [float(i if even else i * i + 1) for i in range(len(values))]
    pairs = [(i, j) for j in range(len(values)) for i in range(j)]
    slopes = sorted((values[j] - values[i]) / (steps[j] - steps[i]) for i, j in pairs)
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for i, j in pairs)
    ties = [values.count(value) for value in set(values)]
    series = Series(tuple(steps), tuple(values))
    seen = drift(series)
    assert seen.slope == median(slopes)
    assert set(seen.slope_interval) <= set(slopes)
    assert seen.slope_interval[0] <= seen.slope <= seen.slope_interval[1]
    assert (seen.p_rising, seen.p_falling) == (p_rising(score, ties), p_rising(-score, ties))
    assert (p_drift(series, rising=True), p_drift(series, rising=False)) == (seen.p_rising, seen.p_falling)
