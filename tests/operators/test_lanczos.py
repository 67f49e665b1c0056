"""Spectral norms against dense SVD and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from rnndiag.operators.lanczos import spectral_norms
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.trajectory import run_layer
from tests.oracles.nets import FORMS, layer, layers


@pytest.fixture(autouse=True, scope="module", params=[512, 1], ids=["double alone", "single first"])
def _from_which_width_on_it_starts_in_single_precision(request: pytest.FixtureRequest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnndiag.operators.squared.WIDE", request.param)
        yield


def norms(op: DiagonalPlusShared, seed: int = 0, rtol: float = 1e-6) -> torch.Tensor:
    return spectral_norms(op, generator=torch.Generator().manual_seed(seed), rtol=rtol)


@given(layers(), st.integers(0, 5))
@settings(deadline=None)
def test_small_nets_agree_with_svd(net, seed) -> None:
    op = run_layer(net, torch.randn(4, 3, net.input_size, dtype=torch.float64)).along.state_jacobian
    exact = torch.linalg.matrix_norm(op.to_dense(), 2)
    torch.testing.assert_close(norms(op, seed), exact, rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("hidden", [40, 130])
def test_wider_nets_agree_with_svd(kind: str, hidden: int) -> None:
    net = layer(kind, 8, hidden)
    op = run_layer(net, torch.randn(20, 4, 8, dtype=torch.float64)).along.state_jacobian
    exact = torch.linalg.matrix_norm(op.to_dense(), 2)
    torch.testing.assert_close(norms(op), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-7, 1e-6, 3e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("seed", range(5))
def test_nearly_equal_largest_singular_values(gap: float, seed: int) -> None:
    values = torch.linspace(0.1, 1, 60, dtype=torch.float64)
    values[-2] = 1 - gap
    op = DiagonalPlusShared(values.expand(50, -1), torch.eye(60, dtype=torch.float64))
    torch.testing.assert_close(norms(op, seed), torch.ones(50, dtype=torch.float64), rtol=1e-6, atol=0)


def test_tight_cluster_of_an_almost_orthogonal_net() -> None:
    q = torch.linalg.qr(torch.randn(80, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    gain = 1 - 1e-4 * torch.rand(200, 80, dtype=torch.float64)
    exact = torch.linalg.matrix_norm(DiagonalPlusShared(gain, q).to_dense(), 2)
    torch.testing.assert_close(norms(DiagonalPlusShared(gain, q)), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1.0, 1e30])
def test_any_scale(scale: float) -> None:
    w = torch.randn(30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale
    op = DiagonalPlusShared(torch.ones(3, 30, dtype=torch.float64), w)
    exact = torch.linalg.matrix_norm(w, 2).expand(3)
    torch.testing.assert_close(norms(op), exact, rtol=1e-6, atol=0)


def test_zero_rank_one_and_identity() -> None:
    eye = torch.eye(7, dtype=torch.float64)
    gain = torch.stack([torch.zeros(7), torch.eye(7)[2], torch.ones(7)]).double()
    torch.testing.assert_close(norms(DiagonalPlusShared(gain, eye)), torch.tensor([0.0, 1, 1], dtype=torch.float64))


def test_single_unit() -> None:
    op = DiagonalPlusShared(torch.tensor([[0.5], [2.0]]).double(), torch.tensor([[-3.0]]).double())
    torch.testing.assert_close(norms(op), torch.tensor([1.5, 6.0], dtype=torch.float64))


def test_many_columns_that_converge_at_different_times() -> None:
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(50, 50, dtype=torch.float64, generator=generator) / math.sqrt(50)
    gain = torch.rand(700, 50, dtype=torch.float64, generator=generator) ** torch.linspace(0, 9, 700).double()[:, None]
    exact = torch.linalg.matrix_norm(DiagonalPlusShared(gain, w).to_dense(), 2)
    torch.testing.assert_close(norms(DiagonalPlusShared(gain, w)), exact, rtol=1e-6, atol=0)


def test_float32_is_good_to_its_precision() -> None:
    net = layer("gru", 8, 48, dtype=torch.float32)
    op = run_layer(net, torch.randn(10, 2, 8)).along.state_jacobian
    exact = torch.linalg.matrix_norm(op.to_dense().double(), 2)
    torch.testing.assert_close(norms(op, rtol=1e-5).double(), exact, rtol=1e-4, atol=0)


def test_not_a_number_is_not_hidden() -> None:
    gain = torch.ones(2, 5, dtype=torch.float64)
    gain[1, 3] = torch.nan
    result = norms(DiagonalPlusShared(gain, torch.eye(5, dtype=torch.float64)))
    assert result[0] == pytest.approx(1)
    assert result[1].isnan()


@pytest.mark.parametrize("maps", [1, 400])
@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-6, 1e-3])
def test_half_of_all_values_in_one_cluster(maps: int, spread: float) -> None:
    """By ``W W^T`` where the maps are many, by ``J^T J`` where they are few."""
    generator = torch.Generator().manual_seed(5)
    q = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64, generator=generator)).Q
    gain = 1 - spread * torch.rand(maps, 64, dtype=torch.float64, generator=generator)
    gain[:, 32:] *= 0.3
    exact = torch.linalg.matrix_norm(DiagonalPlusShared(gain, q).to_dense(), 2)
    torch.testing.assert_close(norms(DiagonalPlusShared(gain, q)), exact, rtol=1e-6, atol=0)


def test_rows_of_very_different_length() -> None:
    """The largest value may come from short rows of W with large gains."""
    generator = torch.Generator().manual_seed(6)
    rows = torch.logspace(-8, 8, 40, dtype=torch.float64)
    w = rows[:, None] * torch.randn(40, 40, dtype=torch.float64, generator=generator)
    gain = torch.rand(90, 40, dtype=torch.float64, generator=generator) / rows ** torch.linspace(0, 2, 90)[:, None]
    exact = torch.linalg.matrix_norm(DiagonalPlusShared(gain, w).to_dense(), 2)
    torch.testing.assert_close(norms(DiagonalPlusShared(gain, w)), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(5, 60), (60, 5)])
def test_a_rectangular_map(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(7)
    w = torch.randn(*shape, dtype=torch.float64, generator=generator)
    op = DiagonalPlusShared(torch.rand(30, shape[0], dtype=torch.float64, generator=generator), w)
    torch.testing.assert_close(norms(op), torch.linalg.matrix_norm(op.to_dense(), 2), rtol=1e-6, atol=0)


def test_chunks_of_one_map_do_not_touch_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(8)
    op = DiagonalPlusShared(torch.rand(40, 30, dtype=torch.float64, generator=generator), torch.eye(30).double() * 2)
    whole = norms(op)
    monkeypatch.setattr("rnndiag.operators.lanczos.CHUNK_BYTES", 1)
    torch.testing.assert_close(norms(op), whole, rtol=1e-12, atol=0)


def test_a_wide_net_agrees_with_svd() -> None:
    op = run_layer(layer("tanh", 8, 520), torch.randn(20, 2, 8, dtype=torch.float64)).along.state_jacobian
    exact = torch.linalg.matrix_norm(op.to_dense(), 2)
    torch.testing.assert_close(norms(op), exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_single_precision_costs_no_more_steps(kind: str) -> None:
    """Its residuals never get under a few eps, and must not be waited for."""
    net, flops, norms = layer(kind, 4, 48, scale=1.2), {}, {}
    inputs = torch.randn(40, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float64, torch.float32):
        jacobian = run_layer(net.to(dtype), inputs.to(dtype)).along.state_jacobian
        with FlopCounterMode(display=False) as counter:
            norms[dtype] = spectral_norms(jacobian, generator=torch.Generator().manual_seed(0)).double()
        flops[dtype] = counter.get_total_flops()
    assert flops[torch.float32] <= flops[torch.float64]
    torch.testing.assert_close(norms[torch.float32], norms[torch.float64], rtol=2e-6, atol=0)
