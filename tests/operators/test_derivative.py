"""Derivatives by automatic differentiation against the structured operators of the cells that PyTorch has too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.operators import derivative, hutchinson
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.derivative import Derivative
from rnndiag.trajectory import run_layer
from tests.oracles import autograd
from tests.oracles.nets import layers, module

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@st.composite
def twins(draw: st.DrawFn) -> tuple[Derivative, BatchedOperator]:
    """The same maps twice: of a cell's own structure, and of PyTorch's module as a function of rows."""
    net = draw(layers())
    steps, batch = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    inputs = torch.randn(steps, batch, net.input_size, dtype=torch.float64)
    along, states, rnn = run_layer(net, inputs).along, autograd.states(net, inputs), module(net)

    def step(u: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return autograd._step(rnn, net, u, w, net.output_size)

    ones = torch.ones(steps, batch, 1, dtype=torch.float64)
    by = draw(st.sampled_from(["u", "w"]))
    one = Derivative(states[:-1], inputs, ones, step, net.state_size, by, draw(st.booleans()))
    return one, along.state_jacobian if by == "u" else along.input_jacobian


@given(twins())
@settings(deadline=None, max_examples=60)
def test_it_is_the_cells_own_operator(pair: tuple[Derivative, BatchedOperator]) -> None:
    one, other = pair
    assert (one.shape, one.batch) == (other.shape, other.batch)
    torch.testing.assert_close(one.to_dense(), other.to_dense(), **CLOSE)
    torch.testing.assert_close(one.frobenius_squared(), other.frobenius_squared(), **CLOSE)
    (m, n), batch = one.shape, one.batch
    v, u = torch.randn(2, *batch, n, dtype=torch.float64), torch.randn(2, *batch, m, dtype=torch.float64)
    torch.testing.assert_close(one.mv(v), other.mv(v), **CLOSE)
    torch.testing.assert_close(one.rmv(u), other.rmv(u), **CLOSE)
    factor = torch.rand(batch, dtype=torch.float64)
    torch.testing.assert_close(one.scaled(factor).mv(v), other.scaled(factor).mv(v), **CLOSE)
    mask = torch.arange(len(one)) % 2 == 0
    torch.testing.assert_close(one.flatten()[mask].to_dense(), other.flatten()[mask].to_dense(), **CLOSE)
    torch.testing.assert_close(one[-1].to_dense(), other[-1].to_dense(), **CLOSE)


@pytest.mark.parametrize("forward_mode", [True, False])
def test_pieces_are_no_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch, forward_mode: bool) -> None:
    seen = []

    def step(u: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        seen.append(len(u))
        return u.tanh() * w.sum(-1, keepdim=True)

    points = [torch.randn(5, 3, width, dtype=torch.float64) for width in (4, 2, 1)]
    op = Derivative(points[0], points[1], torch.ones_like(points[2]), step, 4, "u", forward_mode)
    whole, v = op.frobenius_squared(), torch.randn(7, 5, 3, 4, dtype=torch.float64)
    image, back = op.mv(v), op.rmv(v)
    seen.clear()
    monkeypatch.setattr(derivative, "CHUNK_BYTES", 4 * 4 * 8)
    torch.testing.assert_close(op.mv(v), image)
    torch.testing.assert_close(op.rmv(v), back)
    torch.testing.assert_close(op.frobenius_squared(), whole)
    assert max(seen) == 4


def test_what_does_not_depend_on_an_argument_has_no_derivative_by_it() -> None:
    u, w = torch.randn(3, 4).double(), torch.randn(3, 2).double()
    of_input = Derivative(u, w, torch.ones(3, 1).double(), lambda u, w: w.repeat(1, 2).tanh(), 4, "u")
    for op in (of_input, replace(of_input, forward_mode=False)):
        assert not bool(op.to_dense().any())
        assert not bool(op.rmv(torch.randn(3, 4).double()).any())


def test_random_vectors_estimate_the_frobenius_norm_within_their_error() -> None:
    w = torch.randn(20, 200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    op = Derivative(
        torch.zeros(1, 200).double(),
        torch.zeros(1, 1).double(),
        torch.ones(1, 1).double(),
        lambda u, _: u @ w[0].T,
        200,
        "u",
    )
    estimates = torch.stack(
        [
            hutchinson.frobenius_squared(op, vectors=16, generator=torch.Generator().manual_seed(seed))
            for seed in range(100)
        ]
    )
    exact = float(w[0].square().sum())
    error = float(estimates.std()) / exact
    assert error < (2 / 16) ** 0.5 / 5  # of a map of rank 200, and no more for one of rank one
    assert abs(float(estimates.mean()) / exact - 1) < 4 * error / 100**0.5
