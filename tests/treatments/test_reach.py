"""A net whose top does not receive its input is not cured: tests of the reach of the input and of its effects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rnndiag
from rnndiag import RandomNet
from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings, Thresholds
from rnndiag.measures.gain import stack_gain
from rnndiag.measures.statistics import median
from rnndiag.prescription import Prescription
from rnndiag.probes import Probe
from rnndiag.seeds import generator
from rnndiag.trajectory import run_stack
from rnndiag.treatments.judging import helps, input_reach, rank
from rnndiag.treatments.sound import sound_net
from rnndiag.treatments.trial import Trials, Tried
from tests.builders.patients import patient
from tests.oracles.nets import layer

SYMBOLS, WIDTH, HIDDEN, LENGTH = 4, 5, 24, 20


def sequences(count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs with a symbol at the first step, then weak noise; the target is the symbol: ``[T, B, D]`` and ``[B]``."""
    symbols = torch.randint(SYMBOLS, (count,), generator=stream)
    inputs = 0.1 * torch.randn(LENGTH, count, WIDTH, generator=stream)
    inputs[0, torch.arange(count), symbols] += 1
    inputs[-1, :, -1] += 1
    return inputs, symbols


def deep() -> nn.RNN:
    torch.manual_seed(0)
    return nn.RNN(WIDTH, HIDDEN, num_layers=3)


@pytest.fixture(scope="module")
def prescribed() -> Prescription:
    probe = sequences(16, torch.Generator().manual_seed(1))[0].transpose(0, 1).double().numpy()
    return rnndiag.prescribe(deep(), probe=np.ascontiguousarray(probe))


def accuracy_by_sgd(net: nn.RNN, *, updates: int = 250) -> float:
    """The accuracy in recalling the symbol over the last updates of SGD at 0.1 with clipping at 1."""
    torch.manual_seed(2)
    head, stream, right = nn.Linear(HIDDEN, SYMBOLS), torch.Generator().manual_seed(3), []
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(updates):
        inputs, symbols = sequences(32, stream)
        optimizer.zero_grad()
        scores = head(net(inputs)[0][-1])
        nn.functional.cross_entropy(scores, symbols).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        right.append(float((scores.argmax(1) == symbols).double().mean()))
    return sum(right[-20:]) / 20


def identity() -> nn.RNN:
    net = deep()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "weight_hh" in name:
                nn.init.eye_(parameter)
            elif "weight_ih" in name:
                parameter.normal_(0, 1e-3)
            else:
                parameter.zero_()
    return net


def test_three_layers_of_the_identity_are_healthy_deaf_and_not_chosen(prescribed: Prescription) -> None:
    tried = {each.name: each for each in prescribed.treatments}
    deaf = tried["init-identity"]
    assert deaf.verdict == "healthy"
    assert deaf.input_reach is not None
    assert deaf.input_reach < Thresholds().vanishing
    assert not deaf.helps
    assert "is lost on its way to the top" in deaf.note
    assert prescribed.chosen is not None
    assert tried[prescribed.chosen].input_reach > -1.5  # type: ignore[operator]


def test_the_chosen_net_learns_where_the_deaf_one_does_not(prescribed: Prescription) -> None:
    """Train the nets: the reach predicts which net learns."""
    assert prescribed.chosen is not None
    assert accuracy_by_sgd(identity()) < 0.6
    chosen = deep()
    trials = Trials(patient_of(chosen))
    outcome = trials.of(prescribed.chosen)
    assert isinstance(outcome, Tried)
    assert outcome.stack is not None
    with torch.no_grad():
        for level, done in enumerate(outcome.stack.layers):
            for name, value in done.parameters.items():
                getattr(chosen, f"{name}_l{level}").copy_(value)
    assert accuracy_by_sgd(chosen) > 0.95


def patient_of(net: nn.RNN):  # type: ignore[no-untyped-def]
    from rnndiag.checkpoint.module import load
    from rnndiag.treatments.patient import Patient

    (stack,) = load(net).stacks
    probe = Probe.from_array(sequences(16, torch.Generator().manual_seed(1))[0].transpose(0, 1))
    return Patient.of(Bench.of(stack, probe, Settings(lag=LENGTH)))


def test_the_gain_at_the_last_input_is_that_of_the_jacobian() -> None:
    net, settings = layer("tanh", hidden=6), Settings()
    inputs = torch.randn(9, 5, net.input_size, dtype=torch.float64, generator=generator(0, "x"))
    levels = run_stack(Stack("s", ((net,),)), inputs)
    gain = stack_gain(levels, 9, settings)
    seeds = torch.randn(settings.draws, 5, 6, dtype=torch.float64, generator=generator(settings.seed, "gradient"))
    seeds /= seeds.norm(dim=-1, keepdim=True)
    slopes = 1 - levels[0][0].hidden[-1].square()
    norms = ((seeds * slopes) @ net.weight_ih).norm(dim=-1)
    assert gain.input_now == pytest.approx(float(median(norms.log10().mean(0))))


@pytest.mark.parametrize("net", [{"sigma": 0.5}, {"cell": "relu", "sigma": 0.5}, {"cell": "lstm", "init": "pytorch"}])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_sound_net_is_healthy_and_has_the_same_shape(net: dict[str, object], layers: int) -> None:
    ill = patient(**net, layers=layers)  # type: ignore[arg-type]
    sound = sound_net(ill)
    assert sound.gain.verdict == "healthy"
    shapes = [
        [(la.cell, n, p.shape) for la in each.stack.layers for n, p in la.parameters.items()] for each in (ill, sound)
    ]
    assert shapes[0] == shapes[1]
    assert input_reach(sound.gain, sound.gain) == 0.0


def test_an_input_that_was_lost_before_is_not_held_against_a_treatment() -> None:
    heard = replace(patient(init="orthogonal", length=10).gain, verdict="healthy")
    deaf = replace(heard, input_now=heard.input_now - 9)
    ill = replace(heard, verdict="vanishing")
    reach = input_reach(deaf, heard)
    assert reach == -9
    assert not helps(ill, deaf, Thresholds(), reach)
    assert helps(replace(ill, input_now=deaf.input_now), deaf, Thresholds(), reach)
    assert helps(ill, heard, Thresholds(), input_reach(heard, heard))
    assert input_reach(replace(heard, gradient=None), heard) is None
    assert input_reach(replace(heard, input_now=-math.inf), replace(heard, input_now=-math.inf)) is None


def test_a_net_that_hears_its_input_ranks_before_one_that_hears_it_faintly() -> None:
    result = rnndiag.prescribe(RandomNet(hidden=24, input_size=3, sigma=0.6), length=60, batch=8)
    order = [t.name for t in result.treatments if t.kind != "training"]
    tried = {t.name: t for t in result.treatments}
    faint = tried["init-identity"]
    assert faint.helps
    assert faint.input_reach is not None
    assert -3 < faint.input_reach < -1.5
    assert "reaches the top faintly" in faint.note
    assert order.index("init-orthogonal+scale-inputs") < order.index("init-identity")
    moved = replace(faint, input_reach=0.0, redraws=False)
    assert rank(moved, Thresholds()) < rank(faint, Thresholds())
