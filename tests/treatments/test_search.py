"""Roots of functions whose roots are known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.treatments.search import TOLERANCE, find_scale, grid

UP, DOWN = grid(16.0), grid(1 / 64)


@given(root=st.floats(0.04, 8.0), slope=st.floats(0.5, 300.0), off=st.floats(-0.3, 0.3))
def test_a_root_is_found_though_the_sample_has_another(root: float, slope: float, off: float) -> None:
    def gain(scale: float) -> float:
        return slope * math.log(scale / root)

    found = find_scale(gain, lambda scale: gain(scale * math.exp(off / slope)), 0.0, (UP, DOWN))
    assert found.met
    assert abs(gain(found.scale)) <= TOLERANCE
    assert found.gain == pytest.approx(gain(found.scale))


def test_infinite_gains_are_only_far_away() -> None:
    def gain(scale: float) -> float:
        return -math.inf if scale < 2 else (math.inf if scale > 3 else 40 * math.log(scale / 2.5))

    assert find_scale(gain, gain, 0.0, (UP,)).scale == pytest.approx(2.5, rel=0.01)


def test_without_a_root_the_nearest_is_taken() -> None:
    found = find_scale(*([lambda scale: -1 - abs(math.log(scale / 4))] * 2), 0.0, (UP, DOWN))
    assert not found.met
    assert found.scale == pytest.approx(4.0)


@given(at=st.floats(1.1, 15.0), low=st.floats(-8.0, -0.5), high=st.floats(0.5, 8.0))
def test_a_gain_that_jumps_over_the_target_does_not_meet_it(at: float, low: float, high: float) -> None:
    def gain(scale: float) -> float:
        return low if scale < at else high

    found = find_scale(gain, gain, 0.0, (UP, DOWN))
    assert not found.met
    assert found.gain == pytest.approx(min(low, high, key=abs))
    assert gain(found.scale) == pytest.approx(found.gain)


def test_where_the_sample_jumps_all_sequences_may_have_a_root() -> None:
    found = find_scale(lambda s: math.log(s / 3.01), lambda s: -5.0 if s < 3 else 5.0, 0.0, (UP, DOWN))
    assert found.met
    assert found.scale == pytest.approx(3.01, rel=TOLERANCE)


@pytest.mark.parametrize("limit", [16.0, 1 / 64, 3.0])
def test_a_grid_ends_at_its_limit(limit: float) -> None:
    factors = grid(limit)
    assert factors[-1] == pytest.approx(limit)
    assert all(0.49 < a / b < 2.01 for a, b in zip((1.0, *factors), factors, strict=False))
