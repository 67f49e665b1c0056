"""Trajectories and Jacobians of every cell against PyTorch's own modules and autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.cells.cell import sech_squared, sigmoid_slope
from rnndiag.trajectory import run_layer, run_stack
from tests.oracles import autograd
from tests.oracles.nets import FORMS, KINDS, layer, layers, stack

EXACT = {"rtol": 1e-12, "atol": 1e-13}


@given(layers(), st.integers(1, 4), st.integers(1, 2), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_step_jacobians_are_autograds(net, length: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(length, batch, net.input_size, dtype=torch.float64, generator=generator)
    by_state, by_input = autograd.jacobians(net, inputs)
    along = run_layer(net, inputs).along
    torch.testing.assert_close(along.state_jacobian.to_dense(), by_state, **EXACT)
    torch.testing.assert_close(along.input_jacobian.to_dense(), by_input, **EXACT)


@given(layers())
@settings(deadline=None, max_examples=30)
def test_states_are_the_modules_own(net) -> None:
    inputs = torch.randn(6, 2, net.input_size, dtype=torch.float64)
    states = autograd.states(net, inputs)
    run = run_layer(net, inputs)
    width = net.output_size
    torch.testing.assert_close(run.hidden, states[1:, :, :width], **EXACT)
    if run.along.cell_state is not None:
        torch.testing.assert_close(run.along.cell_state, states[1:, :, width:], **EXACT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj", [0, 2])
def test_a_stack_is_pytorchs_stack(kind: str, bidirectional: bool, proj: int) -> None:
    if proj and kind != "lstm":
        proj = 0
    net = stack(kind, 3, proj=proj, bidirectional=bidirectional)
    types = {"tanh": torch.nn.RNN, "relu": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    options = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    options |= {"proj_size": proj} if proj else {}
    whole = types[kind](3, 5, 3, bidirectional=bidirectional, dtype=torch.float64, **options)
    with torch.no_grad():
        for i, level in enumerate(net.levels):
            for each in level:
                suffix = f"_l{i}" + ("_reverse" if each.direction == "reverse" else "")
                for name, parameter in each.parameters.items():
                    getattr(whole, name + suffix).copy_(parameter)
    inputs = torch.randn(7, 2, 3, dtype=torch.float64)
    runs = run_stack(net, inputs)[-1]
    outputs = torch.cat([r.hidden.flip(0) if r.layer.direction == "reverse" else r.hidden for r in runs], -1)
    torch.testing.assert_close(outputs, whole(inputs)[0].detach(), **EXACT)


@pytest.mark.parametrize("kind", FORMS)
def test_reverse_is_forward_on_the_reversed_sequence(kind: str) -> None:
    inputs = torch.randn(5, 2, 4, dtype=torch.float64)
    forward = run_layer(layer(kind), inputs.flip(0))
    reverse = run_layer(layer(kind, reverse=True), inputs)
    torch.testing.assert_close(forward.hidden, reverse.hidden, rtol=0, atol=0)


def test_deep_saturation_is_small_not_zero() -> None:
    a = torch.tensor([9.5, 30.0, -300.0], dtype=torch.float64)
    assert bool((sech_squared(a) > 0).all())
    torch.testing.assert_close(sech_squared(a), torch.cosh(a).pow(-2), rtol=1e-14, atol=0)
    assert float(sech_squared(torch.tensor(12.0))) > 0  # float32, where 1 - tanh(12)^2 is exactly 0
    assert float(1 - torch.tensor(12.0).tanh() ** 2) == 0
    torch.testing.assert_close(sigmoid_slope(torch.tensor(-80.0).double()), torch.tensor(-80.0).double().exp())


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm", "reset-first"])
def test_float32_agrees_with_float64(kind: str) -> None:
    net = layer(kind, 4, 20, seed=5)
    inputs = torch.randn(30, 2, 4, dtype=torch.float64)
    double = run_layer(net, inputs).along.state_jacobian.to_dense()
    single = run_layer(net.to(torch.float32), inputs.float()).along.state_jacobian.to_dense()
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def test_first_nonfinite_step_counts_from_one() -> None:
    net = layer("relu", 1, 2, bias=False)
    inputs = torch.ones(5, 1, 1, dtype=torch.float64)
    assert run_layer(net, inputs).first_nonfinite_step() is None
    inputs[2] = torch.inf
    assert run_layer(net, inputs).first_nonfinite_step() == 3
