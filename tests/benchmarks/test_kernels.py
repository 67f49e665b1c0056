"""The hot functions under pytest-benchmark. Times are shown and never asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.operators.lanczos import spectral_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.trajectory import run_layer
from tests.oracles.nets import layer

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("pytest_benchmark", reason="pip install 'rnndiag[dev]'")

T, B, H = 50, 4, 64


@pytest.fixture(params=["tanh", "gru", "lstm"])
def run(request: pytest.FixtureRequest):
    generator = torch.Generator().manual_seed(0)
    return run_layer(layer(request.param, 8, H), torch.randn(T, B, 8, dtype=torch.float64, generator=generator))


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.benchmark(group="step norms")
def test_step_norms(run, benchmark: BenchmarkFixture) -> None:
    norms = benchmark(lambda: spectral_norms(run.along.state_jacobian, generator=stream()))
    assert norms.shape == (T, B)


@pytest.mark.benchmark(group="exponents")
@pytest.mark.parametrize("count", [8, 32])
def test_exponents(run, count: int, benchmark: BenchmarkFixture) -> None:
    growth = benchmark(lambda: frame_growth(run.along.state_jacobian, count, [0, T], generator=stream()))
    assert growth.shape == (1, B, count)


@pytest.mark.benchmark(group="gradient through time")
def test_gradient_through_time(run, benchmark: BenchmarkFixture) -> None:
    adjoint = benchmark(lambda: layer_adjoint(run, draws=4, generator=stream()))
    assert adjoint.states.shape == (T, 4, B)
