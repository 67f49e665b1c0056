"""Growth of a frame against a factorisation at every step, and exact cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.operators.structured import DiagonalPlusShared
from rnndiag.trajectory import run_layer
from tests.oracles.nets import FORMS, layer


def growth(op, count: int, bounds: list[int]) -> torch.Tensor:
    return frame_growth(op, count, bounds, generator=torch.Generator().manual_seed(0))


def every_step(op, count: int) -> torch.Tensor:
    """The textbook: a dense product and a QR factorisation at each step, from the same first frame."""
    length, batch = op.batch
    dense = op.to_dense()
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(batch, op.shape[1], count, dtype=torch.float64, generator=generator)).Q
    total = torch.zeros(batch, count, dtype=torch.float64)
    for t in range(length):
        q, r = torch.linalg.qr(dense[t] @ q)
        total += r.diagonal(dim1=-2, dim2=-1).abs().log()
    return total


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_adaptive_factorisation_equals_one_at_every_step(kind: str, scale: float) -> None:
    net = layer(kind, 4, 16, scale=scale, bias=False)
    if kind == "relu":
        net = layer("tanh", 4, 16, scale=scale)
    op = run_layer(net, torch.randn(120, 3, 4, dtype=torch.float64)).along.state_jacobian
    count = op.shape[0]
    torch.testing.assert_close(growth(op, count, [0, 120])[0], every_step(op, count), rtol=1e-7, atol=1e-6)


def test_diagonal_weight_has_its_own_logarithms() -> None:
    weights = torch.tensor([0.9, 0.5, 1.3, 0.1], dtype=torch.float64)
    op = DiagonalPlusShared(torch.ones(400, 2, 4, dtype=torch.float64), torch.diag(weights))
    late = growth(op, 4, [0, 200, 400])[-1] / 200
    torch.testing.assert_close(late, weights.log().sort(descending=True).values.expand(2, -1), rtol=1e-9, atol=1e-9)


def test_scaled_rotation_grows_evenly() -> None:
    q = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))).Q
    op = DiagonalPlusShared(torch.full((50, 2, 12), 1.1, dtype=torch.float64), q)
    torch.testing.assert_close(growth(op, 12, [0, 50])[0], torch.full((2, 12), 50 * math.log(1.1)).double())


def test_blocks_add_up() -> None:
    net = layer("tanh", 4, 10)
    op = run_layer(net, torch.randn(60, 2, 4, dtype=torch.float64)).along.state_jacobian
    whole, parts = growth(op, 5, [0, 60]), growth(op, 5, [0, 7, 8, 31, 60])
    torch.testing.assert_close(parts.sum(0), whole[0], rtol=1e-9, atol=1e-8)


def test_sum_of_all_is_the_log_determinant() -> None:
    net = layer("gru", 4, 7)
    op = run_layer(net, torch.randn(40, 2, 4, dtype=torch.float64)).along.state_jacobian
    determinants = torch.linalg.slogdet(op.to_dense()).logabsdet.sum(0)
    torch.testing.assert_close(growth(op, 7, [0, 40])[0].sum(-1), determinants, rtol=1e-9, atol=1e-8)


def test_annihilated_directions_are_minus_infinity() -> None:
    op = DiagonalPlusShared(torch.zeros(5, 2, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    assert bool((growth(op, 3, [0, 5]) == -math.inf).all())


@pytest.mark.parametrize("hidden", [16, 128])
def test_the_last_exponents_of_a_saturated_net_keep_their_digits(hidden: int) -> None:
    """At sigma 3, where a plain factorisation at every step loses eight of them."""
    net = layer("tanh", 4, hidden, scale=3.0)
    inputs = torch.randn(20, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    op = run_layer(net, inputs).along.state_jacobian
    assert isinstance(op, DiagonalPlusShared)
    determinants = (op.gain.log().sum(-1) + torch.linalg.slogdet(op.weight).logabsdet).sum(0)
    torch.testing.assert_close(growth(op, hidden, [0, 20])[0].sum(-1), determinants, rtol=0, atol=20 * 1e-10)
    torch.testing.assert_close(growth(op, hidden, [0, 20])[0] / 20, every_step(op, hidden) / 20, rtol=0, atol=3e-8)


@pytest.mark.parametrize("scale", [5.0, 10.0, 40.0])
def test_deep_saturation_is_small_and_not_zero(scale: float) -> None:
    net = layer("tanh", 4, 32, scale=scale)
    inputs = torch.randn(20, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    op = run_layer(net, inputs).along.state_jacobian
    assert isinstance(op, DiagonalPlusShared)
    determinants = (op.gain.log().sum(-1) + torch.linalg.slogdet(op.weight).logabsdet).sum(0)
    torch.testing.assert_close(growth(op, 32, [0, 20])[0].sum(-1), determinants, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1.0, 5.0, 40.0])
@pytest.mark.parametrize("rank", [1, 20, 31])
def test_a_weight_of_low_rank_annihilates_the_rest(scale: float, rank: int) -> None:
    net = layer("tanh", 4, 32, scale=scale)
    left, values, right = torch.linalg.svd(net.weight_hh)
    low = replace(net, weight_hh=left[:, :rank] * values[:rank] @ right[:rank])
    inputs = torch.randn(20, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grown = growth(run_layer(low, inputs).along.state_jacobian, 32, [0, 20])[0]
    assert bool(grown[:, :rank].isfinite().all())
    assert bool((grown[:, rank:] == -math.inf).all())


@pytest.mark.parametrize("scale", [0.5, 1.2, 3.0])
def test_the_first_exponents_are_right_to_rounding(scale: float) -> None:
    op = run_layer(layer("tanh", 4, 96, scale=scale), torch.randn(100, 2, 4, dtype=torch.float64)).along.state_jacobian
    torch.testing.assert_close(growth(op, 8, [0, 100])[0] / 100, every_step(op, 8) / 100, rtol=0, atol=1e-11)
