"""Treatments of leaky nets: what is suggested helps, and what makes no sense for a leak is not tried."""

from __future__ import annotations

import pytest
import torch

from rnndiag.cells.layer import Stack
from rnndiag.measures.update_norms import Learner
from rnndiag.seeds import generator
from rnndiag.treatments.registry import TREATMENTS
from rnndiag.treatments.trial import Trials, Tried
from tests.builders.patients import patient
from tests.oracles.leaky import LEAKY, layer, step

SIZES = {"inputs": 3, "hidden": 16}


def ill(kind: str, scale: float = 0.5, alpha: float = 0.5):
    return patient(Stack("rnn", ((layer(kind, **SIZES, scale=scale, alpha=alpha),),)))


def gain_by_autograd(of) -> float:
    """The log10 norm of random gradients after the lag, by autograd of the written-out step."""
    (net,) = of.stack.layers
    gains = []
    start = torch.zeros(of.inputs.shape[1], net.hidden_size, dtype=torch.float64, requires_grad=True)
    state = start
    for x in of.inputs:
        state = step(net, state, x)
    stream = torch.Generator().manual_seed(0)
    for _ in range(16):
        seed = torch.randn(state.shape, generator=stream, dtype=torch.float64)
        (carried,) = torch.autograd.grad(state, start, seed, retain_graph=True)
        gains.append((carried.norm(dim=-1) / seed.norm(dim=-1)).log10())
    return float(torch.stack(gains).median())


@pytest.mark.parametrize("kind", LEAKY)
@pytest.mark.parametrize(("name", "target"), [("lower-leak", -1.5), ("rescale", 0.0)])
def test_a_vanishing_leaky_net_is_healed(kind: str, name: str, target: float) -> None:
    before = ill(kind)
    assert before.gain.verdict == "vanishing"
    assert before.gain.log10 == pytest.approx(gain_by_autograd(before), abs=0.3)
    after = before.with_stack(TREATMENTS[name].apply(before).stack)
    assert after.gain.verdict == "healthy"
    assert gain_by_autograd(after) == pytest.approx(target, abs=0.5)
    (old,), (new,) = before.stack.layers, after.stack.layers
    assert torch.equal(new.extra["alpha"], old.extra["alpha"]) == (name == "rescale")
    assert torch.equal(new.weight_hh, old.weight_hh) == (name == "lower-leak")
    assert bool(((new.extra["alpha"] > 0) & (new.extra["alpha"] <= 1)).all())


@pytest.mark.parametrize("name", ["nearest-orthogonal", "chrono"])
def test_a_treatment_that_makes_no_sense_for_a_leak_is_not_tried(name: str) -> None:
    reason = TREATMENTS[name].unsuited(ill("leaky_tanh"))
    assert reason is not None
    assert (
        reason
        == {
            "nearest-orthogonal": "with a leak, an orthogonal W_hh does not keep the size of a gradient",
            "chrono": "it has no gates",
        }[name]
    )


def test_a_leak_is_lowered_only_where_there_is_one() -> None:
    assert TREATMENTS["lower-leak"].unsuited(patient(sigma=0.5)) == "it has no leak"


@pytest.mark.parametrize(
    ("name", "kind"), list(zip(["init-orthogonal", "init-xavier", "init-identity", "init-he"], LEAKY, strict=True))
)
def test_redrawn_weights_keep_the_leak(kind: str, name: str) -> None:
    outcome = Trials(ill(kind)).of(name)
    assert isinstance(outcome, Tried)
    (new,) = outcome.stack.layers
    assert new.cell == kind
    assert float(new.extra["alpha"]) == 0.5


@pytest.mark.parametrize("kind", LEAKY)
def test_training_does_not_change_the_leak(kind: str) -> None:
    learner = Learner(ill(kind).working, generator(0, "clip"))
    assert [tuple(p.shape) for p in learner.parameters] == [(16, 3), (16, 16), (16,), (16,), (17,)]
    _, norm, gradients = learner.gradient(torch.randn(5, 2, 3, dtype=torch.float64))
    assert norm > 0
    assert all(gradient is not None for gradient in gradients)
