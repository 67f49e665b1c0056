"""The measures of leaky nets against autograd, dense singular values and textbook QR."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rnndiag.cells.layer import Stack
from rnndiag.measures.adjoint import layer_adjoint, nets_gain, stack_adjoint
from rnndiag.measures.lyapunov import lyapunov
from rnndiag.measures.step_norms import step_norms
from rnndiag.trajectory import run_layer, run_stack, run_states
from tests.oracles.leaky import LEAKY, jacobians, layer, states, step

T, B, R = 9, 2, 3
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
PER_UNIT = torch.linspace(0.1, 1.0, 6)


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def unit_seeds() -> torch.Tensor:
    drawn = torch.randn(R, B, 6, dtype=torch.float64, generator=stream())
    return drawn / drawn.norm(dim=-1, keepdim=True)


def differentiated(net, inputs: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Norms of the gradients of ``h_T`` at all states before, and at all inputs: ``[T, B]`` each, by lag."""
    x = inputs.clone().requires_grad_()
    state, carried = torch.zeros(B, 6, dtype=torch.float64, requires_grad=True), []
    for t in range(T):
        carried.append(state)
        state = step(net, state, x[t])
    at_states = torch.autograd.grad(state, carried, seed, retain_graph=True)
    (at_inputs,) = torch.autograd.grad(state, x, seed)
    return torch.stack([each.norm(dim=-1) for each in at_states]).flip(0), at_inputs.norm(dim=-1).flip(0)


@pytest.mark.parametrize("kind", LEAKY)
@pytest.mark.parametrize("alpha", [0.3, PER_UNIT])
def test_gains_are_autograds(kind: str, alpha) -> None:
    net, inputs = layer(kind, alpha=alpha), torch.randn(T, B, 4, dtype=torch.float64)
    measured = layer_adjoint(run_layer(net, inputs), draws=R, generator=stream())
    for r, seed in enumerate(unit_seeds()):
        at_states, at_inputs = differentiated(net, inputs, seed)
        torch.testing.assert_close(measured.states[:, r], at_states.log(), **TIGHT)
        torch.testing.assert_close(measured.inputs[:, r], at_inputs.log(), **TIGHT)


@pytest.mark.parametrize("kind", LEAKY)
def test_credit_is_each_steps_own_part_of_the_weights_gradient(kind: str) -> None:
    net, inputs = layer(kind, alpha=PER_UNIT), torch.randn(T, B, 4, dtype=torch.float64)
    measured = layer_adjoint(run_layer(net, inputs), draws=R, generator=stream())
    before = torch.cat((torch.zeros(1, B, 6, dtype=torch.float64), states(net, inputs)))
    by_state = jacobians(net, inputs)[0]
    for r, seed in enumerate(unit_seeds()):
        for b in range(B):
            at = seed[b]
            for t in reversed(range(T)):
                weight = net.weight_hh.clone().requires_grad_()
                new = step(replace(net, weight_hh=weight), before[t, b][None], inputs[t, b][None])[0]
                (own,) = torch.autograd.grad(new, weight, at)
                torch.testing.assert_close(measured.weights[T - 1 - t, r, b], own.norm().log(), **TIGHT)
                at = at @ by_state[t, b]


@pytest.mark.parametrize("kind", LEAKY)
def test_step_norms_are_the_largest_singular_values(kind: str) -> None:
    net, inputs = layer(kind, alpha=PER_UNIT, scale=2.0), torch.randn(20, 3, 4, dtype=torch.float64)
    _, log10 = step_norms(run_layer(net, inputs).state_jacobians, generator=stream())
    dense = jacobians(net, inputs)[0]
    torch.testing.assert_close(10**log10, torch.linalg.matrix_norm(dense, 2), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", LEAKY)
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_exponents_are_those_of_qr_at_every_step(kind: str, scale: float) -> None:
    net, inputs = layer(kind, alpha=0.4, scale=scale, bias=False), torch.randn(400, 2, 4, dtype=torch.float64)
    run = run_layer(net, inputs)
    measured = lyapunov(run.state_jacobians, inputs, "all", 10, -3.0, generator=stream())
    dense, first = run.along.state_jacobian.to_dense(), measured.transient
    q = torch.linalg.qr(torch.randn(2, 6, 6, dtype=torch.float64, generator=stream())).Q
    total = torch.zeros(2, 6, dtype=torch.float64)
    for t, jacobian in enumerate(dense):
        q, upper = torch.linalg.qr(jacobian @ q)
        total += upper.diagonal(dim1=-2, dim2=-1).abs().log() * (t >= first)
    expected = (total / (400 - first)).mean(0).sort(descending=True).values
    assert measured.exponents == pytest.approx(expected.tolist(), abs=2e-2)
    assert measured.exponents[0] == pytest.approx(float(expected[0]), abs=1e-3)


@pytest.mark.parametrize("kind", LEAKY)
def test_windows_give_what_the_whole_gives(kind: str) -> None:
    net, inputs = layer(kind), torch.randn(30, B, 4, dtype=torch.float64)
    whole = run_layer(net, inputs)
    windowed = replace(run_states(net, inputs), held=None)
    for start, stop in ((0, 7), (7, 30)):
        part = windowed.over(start, stop).state_jacobian.to_dense()
        torch.testing.assert_close(part, whole.along.state_jacobian.to_dense()[start:stop], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["leaky_tanh", "leaky_relu"])
def test_a_stack_of_leaky_layers_is_differentiated_jointly(kind: str) -> None:
    one = replace(layer(kind, 4, 6), name="a")
    two = replace(layer(kind, 6, 6, seed=1), name="b")
    inputs = torch.randn(T, B, 4, dtype=torch.float64)
    measured = stack_adjoint(run_stack(Stack("s", ((one,), (two,))), inputs), draws=R, generator=stream())
    initial = tuple(torch.zeros(B, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    low, high = initial
    for x in inputs:
        low = step(one, low, x)
        high = step(two, high, low)
    for r, seed in enumerate(unit_seeds()):
        gradients = torch.autograd.grad(high, initial, seed, retain_graph=True)
        joint = torch.cat(gradients, dim=-1).norm(dim=-1)
        torch.testing.assert_close(measured.states[T - 1, r], joint.log(), **TIGHT)


@pytest.mark.parametrize("kind", LEAKY)
def test_many_nets_step_back_together(kind: str) -> None:
    nets = [layer(kind, seed=seed, alpha=0.2 + seed / 10) for seed in range(3)]
    runs = [run_layer(net, torch.randn(T, B, 4, dtype=torch.float64)) for net in nets]
    together = nets_gain(runs, 5, draws=R, generators=[stream() for _ in nets])
    for run, gain in zip(runs, together, strict=True):
        torch.testing.assert_close(gain, layer_adjoint(run, draws=R, generator=stream()).states[4], **TIGHT)
