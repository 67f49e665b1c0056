"""Mean fields against other quadratures, closed forms and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.errors import SettingsError
from rnndiag.theory.gaussian_moments import moments
from rnndiag.theory.mean_field import critical_sigma, mean_field


def simpson(q: float, power: int) -> float:
    """``E[sech(sqrt(q) z)^power]`` on so fine a grid that its order does not matter."""
    preactivation = np.linspace(-40, 40, 800_001) if q > 10 else np.linspace(-13, 13, 200_001) * math.sqrt(q)
    density = np.exp(-(preactivation**2) / (2 * q)) / math.sqrt(2 * math.pi * q)
    values = density / np.cosh(preactivation) ** power
    thirds = np.where(np.arange(len(values)) % 2, 4, 2) * (preactivation[1] - preactivation[0]) / 3
    return float((thirds * values).sum())


@pytest.mark.parametrize("q", [1e-9, 1e-3, 0.2, 1.0, 3.0, 4.0, 20.7, 91.7, 1e4, 1e8])
def test_moments_of_tanh_against_simpson_on_a_fine_grid(q: float) -> None:
    found = moments(q, "tanh")
    for value, power in ((found.slope1, 2), (found.slope2, 4), (found.slope4, 8)):
        assert float(value) == pytest.approx(simpson(q, power), rel=1e-10)
    if q >= 0.1:  # below, one minus it has no digits left in the oracle
        assert float(found.square) == pytest.approx(1 - simpson(q, 2), rel=1e-10)
    assert moments([q, 0.0], "tanh").slope2[1] == 1.0


def test_small_variances_keep_their_digits() -> None:
    q = 1e-10
    assert float(moments(q, "tanh").square) == pytest.approx(q * (1 - 2 * q), rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "rate"),
    [(0.9, math.log(0.9)), (1.2, 0.01647625957), (2, 0.1547242298), (5, 0.5324279416), (10, 0.8564351892)],
)
def test_autonomous_rates_to_ten_digits(sigma: float, rate: float) -> None:
    """The figures are adaptive quadratures at 25 digits."""
    field = mean_field(sigma, 0.0, "tanh")
    assert field.rate == pytest.approx(rate, abs=1e-10)
    assert field.depth_scale == pytest.approx(-1 / (2 * rate) if rate < 0 else math.inf)


@given(st.floats(0, 30), st.just(0.0) | st.floats(1e-12, 100))
def test_the_fixed_point_is_one_and_stable(sigma: float, variance: float) -> None:
    field = mean_field(sigma, variance, "tanh")
    image = sigma**2 * float(moments(field.q, "tanh").square) + variance
    assert image == pytest.approx(field.q, rel=1e-10, abs=1e-300)
    above = field.q * 1.01
    assert sigma**2 * float(moments(above, "tanh").square) + variance <= above * (1 + 1e-12)


@pytest.mark.parametrize("excess", [1e-6, 1e-4, 1e-2])
def test_just_above_critical_the_variance_grows_with_the_excess(excess: float) -> None:
    """``q = sigma^2 (q - 2 q^2 + ..)`` gives ``q -> sigma - 1``."""
    assert mean_field(1 + excess, 0.0, "tanh").q == pytest.approx(excess, rel=2 * excess + 1e-9)


def test_large_gain_grows_as_its_root() -> None:
    """``q -> sigma^2`` and ``E[sech^4] -> (4/3) / sqrt(2 pi q)``."""
    assert mean_field(1e4, 0.0, "tanh").chi == pytest.approx(1e4 * 4 / 3 / math.sqrt(2 * math.pi), rel=1e-3)


@given(st.floats(1e-9, 1e4))
def test_the_critical_gain_is_critical(variance: float) -> None:
    sigma = critical_sigma(variance, "tanh")
    assert sigma > 1
    assert mean_field(sigma, variance, "tanh").chi == pytest.approx(1, abs=1e-9)


def test_without_input_one_is_critical() -> None:
    assert critical_sigma(0.0, "tanh") == 1.0
    field = mean_field(1.0, 0.0, "tanh")
    assert (field.q, field.rate, field.depth_scale) == (0.0, 0.0, math.inf)


def test_relu_in_closed_form() -> None:
    field = mean_field(1.2, 1.0, "relu")
    assert field.q == pytest.approx(1 / (1 - 0.72))
    assert field.chi == pytest.approx(0.72)
    assert critical_sigma(3.0, "relu") == pytest.approx(math.sqrt(2))
    assert mean_field(1.5, 1.0, "relu").q == math.inf
    assert mean_field(1.0, 0.0, "relu").q == 0.0
    assert math.isnan(mean_field(math.sqrt(2), 0.0, "relu").q)


def test_no_recurrence_forgets_at_once() -> None:
    field = mean_field(0.0, 0.7, "tanh")
    assert (field.q, field.rate, field.depth_scale) == (0.7, -math.inf, 0.0)


@pytest.mark.parametrize(("sigma", "variance"), [(-1.0, 0.0), (1.0, -1.0), (math.nan, 0.0), (1.0, math.inf)])
def test_what_is_no_gain_or_variance_is_refused(sigma: float, variance: float) -> None:
    with pytest.raises(SettingsError, match="expected a finite number of at least 0"):
        mean_field(sigma, variance, "tanh")
