"""The leaky cells against autograd of their formulas, and against what they are in special cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.operators.row_scaled import RowScaled
from rnndiag.trajectory import run_layer, run_states
from tests.oracles.leaky import LEAKY, jacobians, layer, states
from tests.oracles.nets import layer as plain_layer

EXACT = {"rtol": 1e-11, "atol": 1e-12}


@st.composite
def leaky_layers(draw: st.DrawFn):
    hidden = draw(st.integers(1, 7))
    one = st.floats(0.01, 1.0)
    alpha = draw(one | st.lists(one, min_size=hidden, max_size=hidden))
    return layer(
        draw(st.sampled_from(LEAKY)),
        draw(st.integers(1, 4)),
        hidden,
        alpha=torch.tensor(alpha),
        bias=draw(st.booleans()),
        scale=draw(st.floats(0.1, 4)),
        seed=draw(st.integers(0, 2**16)),
    )


@given(leaky_layers(), st.integers(1, 4), st.integers(1, 2))
@settings(deadline=None, max_examples=60)
def test_states_and_jacobians_are_autograds(net, length: int, batch: int) -> None:
    inputs = torch.randn(length, batch, net.input_size, dtype=torch.float64)
    run = run_layer(net, inputs)
    by_state, by_input = jacobians(net, inputs)
    torch.testing.assert_close(run.hidden, states(net, inputs), **EXACT)
    torch.testing.assert_close(run.along.state_jacobian.to_dense(), by_state, **EXACT)
    torch.testing.assert_close(run.along.input_jacobian.to_dense(), by_input, **EXACT)
    torch.testing.assert_close(
        run.along.state_jacobian.frobenius_squared(), by_state.square().sum((-1, -2)), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("kind", LEAKY)
def test_transposed_maps_are_the_adjoint(kind: str) -> None:
    net, inputs = layer(kind, alpha=torch.linspace(0.1, 1, 6)), torch.randn(5, 2, 4, dtype=torch.float64)
    by_state = jacobians(net, inputs)[0]
    u = torch.randn(3, 5, 2, 6, dtype=torch.float64)
    expected = torch.einsum("tbij,rtbi->rtbj", by_state, u)
    torch.testing.assert_close(run_layer(net, inputs).along.state_jacobian.rmv(u), expected, **EXACT)


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_a_leak_of_one_is_the_plain_net(phi: str) -> None:
    plain, inputs = plain_layer(phi), torch.randn(9, 3, 4, dtype=torch.float64)
    leaky = replace(plain, cell=f"leaky_{phi}", extra={"alpha": torch.ones(1, dtype=torch.float64)})
    one, two = run_layer(plain, inputs), run_layer(leaky, inputs)
    torch.testing.assert_close(two.hidden, one.hidden, **EXACT)
    torch.testing.assert_close(two.along.state_jacobian.to_dense(), one.along.state_jacobian.to_dense(), **EXACT)


def test_a_linear_net_is_its_matrix() -> None:
    net, inputs = replace(plain_layer("relu"), cell="linear"), torch.randn(4, 2, 4, dtype=torch.float64)
    run = run_layer(net, inputs)
    h = torch.zeros(2, 6, dtype=torch.float64)
    for t, x in enumerate(inputs):
        h = h @ net.weight_hh.T + x @ net.weight_ih.T + net.bias_ih + net.bias_hh
        torch.testing.assert_close(run.hidden[t], h, **EXACT)
    dense = run.along.state_jacobian.to_dense()
    torch.testing.assert_close(dense, net.weight_hh.expand_as(dense), **EXACT)
    dense = run.along.input_jacobian.to_dense()
    torch.testing.assert_close(dense, net.weight_ih.expand_as(dense), **EXACT)


@pytest.mark.parametrize("kind", ["leaky_tanh", "leaky_current_tanh"])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 1e-30])
def test_deep_saturation_and_small_leaks_keep_their_digits(kind: str, alpha: float) -> None:
    """In float64 the slopes underflow to zero; the Jacobian with separate exponents equals the one of mpmath."""
    mpmath = pytest.importorskip("mpmath")
    net = layer(kind, 2, 3, alpha=alpha, scale=2.0)
    inputs = torch.full((2, 1, 2), 2000.0 / alpha, dtype=torch.float64)
    net = replace(net, weight_ih=net.weight_ih.abs() + 0.5)
    run = run_layer(net, inputs)
    operator = run.along.state_jacobian[1]
    assert isinstance(operator, RowScaled)
    seen = run.hidden[0, 0] if "current" in kind else _preactivation(net, run.hidden[0, 0], inputs[1, 0])
    with mpmath.workdps(40):
        slopes = [1 / mpmath.cosh(mpmath.mpf(float(a))) ** 2 for a in seen]
        image, power = operator.pulled_back(torch.ones(1, 1, 3, dtype=torch.float64))
        for j in range(3):
            exact = mpmath.mpf(float(1 - net.extra["alpha"]))
            for i in range(3):
                slope = slopes[j] if "current" in kind else slopes[i]
                exact += mpmath.mpf(alpha) * slope * mpmath.mpf(float(net.weight_hh[i, j]))
            found = mpmath.mpf(float(image[0, 0, j])) * mpmath.mpf(2) ** int(power[0, 0])
            if alpha == 1.0 and "current" in kind and abs(exact) < mpmath.mpf(2) ** (int(power[0, 0]) - 900):
                continue  # beside the largest entry it counts for nothing
            assert abs(found - exact) <= abs(exact) * mpmath.mpf("1e-9")


def _preactivation(net, before: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return net.weight_hh @ before + net.weight_ih @ x + net.bias_ih + net.bias_hh


@pytest.mark.parametrize("kind", LEAKY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_states_can_be_run_in_every_stored_dtype(kind: str, dtype: torch.dtype) -> None:
    net = layer(kind, dtype=dtype)
    inputs = torch.randn(5, 2, 4, dtype=dtype)
    wide = run_states(net.to(torch.float64), inputs.double()).hidden
    run = run_states(net, inputs)
    assert run.hidden.dtype == dtype
    torch.testing.assert_close(run.hidden.double(), wide, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", LEAKY)
def test_parameters_get_the_gradient_that_autograd_gives(kind: str) -> None:
    net, inputs = layer(kind), torch.randn(5, 2, 4, dtype=torch.float64)
    gradients = []
    for run in (lambda of: run_states(of, inputs).hidden, lambda of: states(of, inputs)):
        weight = net.weight_hh.clone().requires_grad_()
        run(replace(net, weight_hh=weight))[-1].square().sum().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients, **EXACT)
