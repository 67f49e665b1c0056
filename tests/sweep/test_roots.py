"""Root finding against functions whose roots are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.sweep.roots import root


def solve(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-6) -> tuple[float, int]:
    search = root(low, f(low), high, f(high), tolerance)
    asked = 0
    try:
        x = next(search)
        while True:
            assert low <= x <= high
            asked += 1
            x = search.send(f(x))
    except StopIteration as found:
        return found.value, asked


@pytest.mark.parametrize(
    ("f", "low", "high", "expected"),
    [
        (lambda x: math.log(x), 0.5, 3, 1.0),
        (lambda x: x**3 - 2, 0, 2, 2 ** (1 / 3)),
        (lambda x: math.tanh(50 * (x - 0.3)), -1, 2, 0.3),
        (lambda x: -math.inf if x < 1.25 else x - 1.2, 0, 3, 1.25),
        (lambda x: x, 0, 1, 0.0),
        (lambda x: 1.0 if x > 0.7 else -1.0, 0, 1, 0.7),
    ],
)
def test_known_roots(f: Callable[[float], float], low: float, high: float, expected: float) -> None:
    found, asked = solve(f, low, high)
    assert found == pytest.approx(expected, abs=2e-6)
    assert asked <= 30


@given(st.floats(-3, 3), st.floats(0.01, 5), st.floats(0.01, 5))
def test_smooth_functions_take_few_steps(at: float, below: float, above: float) -> None:
    found, asked = solve(lambda x: math.expm1(x - at), at - below, at + above)
    assert found == pytest.approx(at, abs=1e-6)
    assert asked <= 12
