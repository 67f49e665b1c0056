"""Gradients through time against autograd, for every cell, stack and direction."""

from __future__ import annotations

import math

import pytest
import torch

from rnndiag.cells.layer import Stack
from rnndiag.measures.adjoint import layer_adjoint, nets_adjoint, stack_adjoint
from rnndiag.trajectory import run_layer, run_stack
from tests.oracles import autograd
from tests.oracles.nets import FORMS, KINDS, layer, module, stack

T, B, R = 9, 2, 3
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def unit_seeds(width: int, batch: int = B) -> torch.Tensor:
    """The seeds as documented: standard normal draws on ``h_T``, normalised, from the generator given."""
    drawn = torch.randn(R, batch, width, dtype=torch.float64, generator=generator())
    return drawn / drawn.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("proj", [0, 3])
def test_a_layers_gains_are_autograds(kind: str, proj: int) -> None:
    net = layer(kind, proj=proj if kind == "lstm" else 0)
    inputs = torch.randn(T, B, net.input_size, dtype=torch.float64)
    measured = layer_adjoint(run_layer(net, inputs), draws=R, generator=generator())
    for r, seed in enumerate(unit_seeds(net.output_size)):
        carried, at_inputs = autograd.carried_adjoints(Stack("s", ((net,),)), inputs, {net.name: seed})
        torch.testing.assert_close(measured.states[:, r], carried[net.name].norm(dim=-1).log().flip(0), **TIGHT)
        torch.testing.assert_close(measured.inputs[:, r], at_inputs.norm(dim=-1).log().flip(0), **TIGHT)


@pytest.mark.parametrize("kind", FORMS)
def test_credit_is_each_steps_own_part_of_the_weights_gradient(kind: str) -> None:
    net = layer(kind)
    inputs = torch.randn(T, 1, net.input_size, dtype=torch.float64)
    measured = layer_adjoint(run_layer(net, inputs), draws=R, generator=generator())
    assert measured.weights is not None
    states = autograd.states(net, inputs)
    for r, seed in enumerate(unit_seeds(net.output_size, 1)):
        carried, _ = autograd.carried_adjoints(Stack("s", ((net,),)), inputs, {net.name: seed})
        after = torch.cat((carried[net.name], torch.zeros(1, 1, states.shape[-1]).double()))
        after[-1, :, : net.output_size] = seed
        for t in range(T):
            rnn = module(net)
            output = autograd._step(rnn, net, states[t], inputs[t], net.output_size)
            (output * after[t + 1]).sum().backward()
            own = rnn.weight_hh_l0.grad
            assert own is not None
            torch.testing.assert_close(measured.weights[T - 1 - t, r, 0], own.norm().log(), **TIGHT)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_stacks_gain_is_the_joint_gradient_at_all_states(kind: str, levels: int) -> None:
    net = stack(kind, levels)
    inputs = torch.randn(T, B, 3, dtype=torch.float64)
    measured = stack_adjoint(run_stack(net, inputs), draws=R, generator=generator())
    top = net.levels[-1][0]
    for r, seed in enumerate(unit_seeds(top.output_size)):
        carried, at_inputs = autograd.carried_adjoints(net, inputs, {top.name: seed})
        joint = torch.cat(list(carried.values()), dim=-1).norm(dim=-1).log().flip(0)
        torch.testing.assert_close(measured.states[:, r], joint, **TIGHT)
        torch.testing.assert_close(measured.inputs[:, r], at_inputs.norm(dim=-1).log().flip(0), **TIGHT)


def test_a_stacks_gain_is_the_gradient_at_pytorchs_initial_states() -> None:
    """The same from the outside: nn.LSTM run on the last steps, differentiated by its ``(h_0, c_0)``."""
    net = stack("lstm", 2)
    inputs = torch.randn(T, 1, 3, dtype=torch.float64)
    levels = run_stack(net, inputs)
    measured = stack_adjoint(levels, draws=1, generator=generator())
    drawn = torch.randn(1, 1, 5, dtype=torch.float64, generator=generator())
    seed = drawn[0, 0] / drawn.norm()
    whole = torch.nn.LSTM(3, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        for i, (each,) in enumerate(net.levels):
            for name, parameter in each.parameters.items():
                getattr(whole, f"{name}_l{i}").copy_(parameter)
    for lag in (1, 4, T - 1):
        start = T - lag
        h = torch.stack([run.hidden[start - 1] for (run,) in levels]).requires_grad_()
        c = torch.stack([run.along.cell_state[start - 1] for (run,) in levels]).requires_grad_()
        out, _ = whole(inputs[start:], (h, c))
        (out[-1, 0] * seed).sum().backward()
        assert h.grad is not None
        assert c.grad is not None
        expected = math.log(float((h.grad.square().sum() + c.grad.square().sum()).sqrt()))
        assert float(measured.states[lag - 1, 0, 0]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_both_directions(kind: str, levels: int) -> None:
    net = stack(kind, levels, bidirectional=True)
    inputs = torch.randn(T, B, 3, dtype=torch.float64)
    measured = stack_adjoint(run_stack(net, inputs), draws=1, generator=generator())
    drawing = generator()
    squares, input_squares = [], []
    for top in net.levels[-1]:
        drawn = torch.randn(1, B, top.output_size, dtype=torch.float64, generator=drawing)
        seed = (drawn / drawn.norm(dim=-1, keepdim=True))[0]
        carried, at_inputs = autograd.carried_adjoints(net, inputs, {top.name: seed})
        by_lag = torch.zeros(T, B, dtype=torch.float64)
        for each in net.layers:
            for state, gradient in enumerate(carried[each.name].norm(dim=-1).square()):
                # In the seed's time: its own direction's state i is at time i, the other's at T + 1 - i.
                lag = T - state if each.direction == top.direction else state - 1
                if lag >= 1:
                    by_lag[lag - 1] += gradient
        squares.append(by_lag)
        at_inputs = at_inputs.norm(dim=-1).square()
        input_squares.append(at_inputs.flip(0) if top.direction == "forward" else at_inputs)
    torch.testing.assert_close(measured.states[:, 0], torch.stack(squares).mean(0).log() / 2, **TIGHT)
    torch.testing.assert_close(measured.inputs[:, 0], torch.stack(input_squares).mean(0).log() / 2, **TIGHT)


def test_nothing_underflows_over_a_long_sequence() -> None:
    net = layer("tanh", 1, 1, bias=False)
    net.weight_hh.fill_(0.01)
    net.weight_ih.fill_(0.0)
    length = 5000
    measured = layer_adjoint(
        run_layer(net, torch.zeros(length, 1, 1, dtype=torch.float64)), draws=1, generator=generator()
    )
    torch.testing.assert_close(
        measured.states[:, 0, 0], torch.arange(1, length + 1).double() * math.log(0.01), rtol=1e-12, atol=0
    )


def test_zero_weights_give_minus_infinity_and_no_nan() -> None:
    net = layer("tanh", bias=False)
    net.weight_hh.zero_()
    two = Stack("s", ((net,), (layer("tanh", 6, 6, bias=False, name="rnn.l1"),)))
    for parameter in two.levels[1][0].parameters.values():
        parameter.zero_()
    inputs = torch.randn(T, B, 4, dtype=torch.float64)
    for measured in (
        layer_adjoint(run_layer(net, inputs), draws=R, generator=generator()),
        stack_adjoint(run_stack(two, inputs), draws=R, generator=generator()),
    ):
        assert bool((measured.states == -math.inf).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lag", [1, 4, T])
def test_nets_that_step_back_together_do_as_each_alone(kind: str, lag: int) -> None:
    nets = [layer(kind, seed=seed) for seed in range(3)]
    runs = [run_layer(net, torch.randn(T, B, net.input_size, dtype=torch.float64)) for net in nets]
    together = nets_adjoint(runs, lag, draws=R, generators=[generator() for _ in nets])
    for run, adjoint in zip(runs, together, strict=True):
        alone = layer_adjoint(run, draws=R, generator=generator())
        torch.testing.assert_close(adjoint.states, alone.states[:lag], **TIGHT)
        torch.testing.assert_close(adjoint.inputs, alone.inputs[:lag], **TIGHT)
