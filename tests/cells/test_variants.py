"""Cells that PyTorch has no module for: states, Jacobians and every measure against autograd and dense matrices."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.cells.gate_functions import GATES
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config.settings import Settings
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.measures.layer import measure_layer
from rnndiag.measures.step_norms import step_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.trajectory import run_layer
from tests.oracles import autograd
from tests.oracles.nets import variant
from tests.oracles.variants import VARIANTS, Variant

EXACT = {"rtol": 1e-10, "atol": 1e-10}
T, B, R = 9, 2, 3


def noise(length: int, batch: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(length, batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@st.composite
def nets(draw: st.DrawFn) -> RecurrentLayer:
    name = draw(st.sampled_from(list(VARIANTS)))
    hidden = draw(st.integers(1, 9))
    return variant(
        name,
        draw(st.integers(1, 5)),
        hidden,
        proj=draw(st.integers(0, hidden - 1)) if VARIANTS[name][0] == "lstm" else 0,
        bias=draw(st.booleans()),
        affine=draw(st.booleans()),
        scale=draw(st.floats(0.1, 4)),
        seed=draw(st.integers(0, 2**16)),
    )


@given(nets(), st.integers(1, 4), st.integers(1, 2), st.integers(0, 1000))
@settings(deadline=None, max_examples=150)
def test_states_jacobians_and_products_are_autograds(net: RecurrentLayer, length: int, batch: int, seed: int) -> None:
    inputs = noise(length, batch, net.input_size, seed)
    states = autograd.states(net, inputs)
    run = run_layer(net, inputs)
    torch.testing.assert_close(run.hidden, states[1:, :, : net.output_size], **EXACT)
    if run.cell_state is not None:
        torch.testing.assert_close(run.cell_state, states[1:, :, net.output_size :], **EXACT)
    for operator, exact in zip(
        (run.along.state_jacobian, run.along.input_jacobian), autograd.jacobians(net, inputs), strict=True
    ):
        size = 1 + exact.abs().amax()
        torch.testing.assert_close(operator.to_dense() / size, exact / size, **EXACT)
        u = noise(length, batch, operator.shape[0], seed)
        torch.testing.assert_close(operator.rmv(u) / size, torch.einsum("tbmn,tbm->tbn", exact, u) / size, **EXACT)
        square = exact.square().sum((-1, -2))
        torch.testing.assert_close(operator.frobenius_squared(), square, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_step_norms_and_exponents_are_those_of_dense_matrices(name: str) -> None:
    net = variant(name, 3, 5)
    inputs = noise(12, B, 3)
    run = run_layer(net, inputs)
    dense, _ = autograd.jacobians(net, inputs)
    _, norms = step_norms(run.state_jacobians, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norms, torch.linalg.matrix_norm(dense, 2).log10(), rtol=1e-6, atol=1e-6)
    size = net.state_size
    growth = frame_growth(run.state_jacobians, size, [0, 12], generator=torch.Generator().manual_seed(2))[0]
    volume = torch.linalg.slogdet(dense).logabsdet.sum(0)
    regular = (torch.linalg.svdvals(dense)[..., -1] > 1e-9).all(0)  # ReLU and hard_sigmoid annihilate directions
    torch.testing.assert_close(growth.sum(-1)[regular], volume[regular], rtol=1e-7, atol=1e-7)
    assert bool((growth.sum(-1)[~regular] < math.log(1e-9)).all())


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("proj", [0, 3])
def test_gains_and_credit_are_autograds(name: str, proj: int) -> None:
    net = variant(name, proj=proj if VARIANTS[name][0] == "lstm" else 0)
    inputs = noise(T, 1, net.input_size)
    measured = layer_adjoint(run_layer(net, inputs), draws=R, generator=torch.Generator().manual_seed(7))
    assert measured.weights is not None
    seeds = torch.randn(R, 1, net.output_size, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    states = autograd.states(net, inputs)
    for r, seed in enumerate(seeds / seeds.norm(dim=-1, keepdim=True)):
        carried, at_inputs = autograd.carried_adjoints(Stack("s", ((net,),)), inputs, {net.name: seed})
        torch.testing.assert_close(
            measured.states[:, r], carried[net.name].norm(dim=-1).log().flip(0), rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(measured.inputs[:, r], at_inputs.norm(dim=-1).log().flip(0), rtol=1e-9, atol=1e-9)
        after = torch.cat((carried[net.name], torch.zeros(1, 1, states.shape[-1]).double()))
        after[-1, :, : net.output_size] = seed
        for t in range(T):
            rnn = Variant(net)
            output = autograd._step(rnn, net, states[t], inputs[t], net.output_size)
            (output * after[t + 1]).sum().backward()
            own = rnn.weight_hh_l0.grad
            assert own is not None
            torch.testing.assert_close(measured.weights[T - 1 - t, r, 0], own.norm().log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_long_trajectory_in_windows_gives_the_same_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = variant(name), noise(40, B, 4)
    settings = Settings(exponents="all")
    whole, _ = measure_layer(run_layer(net, inputs), net, 40, settings)
    monkeypatch.setattr("rnndiag.trajectory.HELD_BYTES", 1)
    monkeypatch.setattr("rnndiag.trajectory.WINDOW_BYTES", 7 * B * len(net.gates) * net.hidden_size * 8)
    run = run_layer(net, inputs)
    assert run.held is None
    assert run.span == 7
    windowed, _ = measure_layer(run, net, 40, settings)
    assert windowed.verdict == whole.verdict
    assert windowed.gradient.log10_by_lag == pytest.approx(whole.gradient.log10_by_lag, rel=1e-9, abs=1e-9)
    assert windowed.lyapunov.exponents == pytest.approx(whole.lyapunov.exponents, rel=1e-9, abs=1e-9)
    assert windowed.jacobian.norm_per_step == pytest.approx(whole.jacobian.norm_per_step, rel=1e-9)
    assert windowed.saturation == whole.saturation
    for gate, values in whole.gates.items():
        known = {name: value for name, value in asdict(values).items() if value is not None}
        again = asdict(windowed.gates[gate])
        assert {name: again[name] for name in known} == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_states_run_in_every_floating_type_and_with_a_graph(name: str) -> None:
    from rnndiag.trajectory import run_states

    net, inputs = variant(name, scale=0.7), noise(10, B, 4)
    double = run_states(net, inputs)
    for dtype, close in ((torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        short = run_states(net.to(dtype), inputs.to(dtype))
        assert short.hidden.dtype == dtype
        torch.testing.assert_close(short.hidden.double(), double.hidden, rtol=close, atol=close)
    weight = net.weight_hh.clone().requires_grad_()
    from rnndiag.cells import cell_of

    tracked = replace(net, weight_hh=weight)
    cell_of(tracked).hidden_states(tracked, inputs)[-1].square().sum().backward()
    expected = Variant(net)
    zero = torch.zeros(1, B, net.hidden_size).double()
    state = (zero, zero) if net.kind.has_cell_state else zero
    expected(inputs, state)[0][-1].square().sum().backward()
    torch.testing.assert_close(weight.grad, expected.weight_hh_l0.grad, **EXACT)


@pytest.mark.parametrize("name", VARIANTS)
def test_slopes_and_gates_have_the_names_of_the_plain_cell(name: str) -> None:
    net = variant(name)
    along = run_layer(net, noise(5, B, 4)).along
    gated = {"lstm": {"input", "forget", "output"}}.get(VARIANTS[name][0], {"reset", "update"})
    assert set(along.gates) == gated
    assert next(iter(along.slopes)) == "candidate"
    keeping = along.gates[net.kind.family.keeping]
    assert along.keeping_log is not None
    torch.testing.assert_close(along.keeping_log.exp(), keeping, **EXACT)
    assert all(bool(((values >= 0) & (values <= 1)).all()) for values in along.gates.values())


@pytest.mark.parametrize("name", GATES)
def test_a_gate_its_slope_and_its_logarithm_agree(name: str) -> None:
    gate = GATES[name]
    a = torch.linspace(-8, 8, 4001, dtype=torch.float64, requires_grad=True)
    value = gate.value(a)
    (slope,) = torch.autograd.grad(value.sum(), a)
    inside = ((a.abs() - getattr(gate, "width", 0) / 2).abs() > 1e-9).detach()  # torch.clamp passes the corners
    torch.testing.assert_close(gate.slope(a.detach())[inside], slope[inside], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gate.log(a).exp(), value, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gate.value(-a), 1 - value, rtol=1e-12, atol=1e-15)
    zero = torch.zeros_like(value.detach())
    for wide, plain in ((gate.wide_value(a.detach()), value), (gate.wide_slope(a.detach()), gate.slope(a.detach()))):
        torch.testing.assert_close(wide.over(zero), plain.detach(), rtol=1e-12, atol=1e-15)
