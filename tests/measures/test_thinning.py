"""Long curves keep their ends, their extremes and their summaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnndiag.api import simulate
from rnndiag.config.settings import Settings
from rnndiag.measures import thinning
from rnndiag.random_nets import RandomNet


@given(st.integers(2000, 10**7), st.lists(st.integers(1, 2000), max_size=5))
def test_kept_steps_lie_symmetrically_and_hold_what_they_must(length: int, always: list[int]) -> None:
    kept = thinning.kept_steps(length, always)
    assert {1, length, *always} <= set(kept)
    assert kept == tuple(sorted(set(kept)))
    assert kept == tuple(length + 1 - step for step in reversed(kept))
    assert len(kept) <= 1100


def test_a_thinned_report_has_the_points_of_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured():
        settings = Settings(exponents=1, treat=False)
        return simulate(RandomNet(hidden=6, input_size=2), length=2500, batch=2, settings=settings)

    whole = measured()
    monkeypatch.setattr(thinning, "MAX_WHOLE_STEPS", 2000)
    thin = measured()
    (one,), (two,) = whole.layers, thin.layers
    steps, lags = two.jacobian.steps, thin.stacks[0].gradient.lags
    assert 900 < len(steps) < 1100
    assert two.jacobian.norm_per_step == tuple(one.jacobian.norm_per_step[s - 1] for s in steps)
    assert two.saturation.per_step == tuple(one.saturation.per_step[s - 1] for s in steps)
    assert two.gradient.log10_by_lag == tuple(one.gradient.log10_by_lag[lag - 1] for lag in two.gradient.lags)
    assert thin.stacks[0].gradient.log10_by_lag == tuple(whole.stacks[0].gradient.log10_by_lag[lag - 1] for lag in lags)
    assert max(two.jacobian.norm_per_step) == max(one.jacobian.norm_per_step)
    assert whole.findings == thin.findings
    assert whole.summary == thin.summary
    assert two.gradient.horizon == one.gradient.horizon
