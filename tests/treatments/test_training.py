"""Advice on training against brute force."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rnndiag.cells.layer import Stack
from rnndiag.measures.update_norms import Learner, UpdateNorms, update_norms
from rnndiag.seeds import generator
from rnndiag.treatments.attention import wins_from
from rnndiag.treatments.base import Advised
from rnndiag.treatments.clip import BATCHES, batches, sound_norms
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.registry import TRAINING
from rnndiag.treatments.sound import sound_net
from tests.builders.patients import patient
from tests.oracles.nets import FORMS, layer, module, stack


def losses_of_pytorch(
    net: Stack, inputs: list[Tensor], stream: torch.Generator, *, rate: float, clip: float
) -> tuple[list[float], list[float]]:
    """Losses and norms of SGD on PyTorch's own modules with ``clip_grad_norm_`` and the documented readout and loss."""
    modules = [[module(la) for la in level] for level in net.levels]
    width = sum(la.output_size for la in net.levels[-1])
    drawn = torch.empty(width + 1, dtype=torch.float64).uniform_(-(width**-0.5), width**-0.5, generator=stream)
    readout = torch.nn.Linear(width, 1, dtype=torch.float64)
    with torch.no_grad():
        readout.weight.copy_(drawn[None, :-1])
        readout.bias.copy_(drawn[-1:])
    parameters = [p for level in modules for m in level for p in m.parameters() if p.requires_grad]
    parameters += list(readout.parameters())
    optimizer = torch.optim.SGD(parameters, lr=rate)
    losses, norms = [], []
    for fed in inputs:
        outputs: list[Tensor] = []
        for level, built in zip(net.levels, modules, strict=True):
            outputs = [
                m(fed.flip(0) if la.direction == "reverse" else fed)[0] for la, m in zip(level, built, strict=True)
            ]
            fed = torch.cat(
                [o.flip(0) if la.direction == "reverse" else o for o, la in zip(outputs, level, strict=True)], -1
            )
        last = torch.cat([o[-1] for o in outputs], -1)
        targets = torch.randn(len(last), dtype=torch.float64, generator=stream)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(readout(last)[:, 0], targets)
        loss.backward()
        losses.append(loss.item())
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, clip)))
        optimizer.step()
    return losses, norms


def probes(count: int, *, width: int = 3) -> list[Tensor]:
    return [torch.randn(7, 3, width, dtype=torch.float64, generator=generator(i, "x")) for i in range(count)]


@pytest.mark.parametrize("kind", [form for form in FORMS if form != "reset-first"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_norms_of_updates_are_autograds(kind: str, bidirectional: bool) -> None:
    net = stack(kind, 2, bidirectional=bidirectional)  # type: ignore[arg-type]
    measured = update_norms(net, probes(3), generator=generator(0, "u"))
    _, norms = losses_of_pytorch(net, probes(3), generator(0, "u"), rate=0.0, clip=1e9)
    assert measured.norms == pytest.approx(sorted(norms))


@pytest.mark.parametrize("clip", [0.3, math.inf])
@pytest.mark.parametrize("kind", ["tanh", "lstm"])
def test_descent_is_pytorchs_sgd_with_its_clipping(kind: str, clip: float) -> None:
    net = stack(kind, 2, bidirectional=False)  # type: ignore[arg-type]
    parameters = [p for la in net.layers for p in la.parameters.values()]
    before = [p.clone() for p in parameters]
    losses = Learner(net, generator(0, "u")).descend(probes(6), 0.1, clip)
    expected, _ = losses_of_pytorch(net, probes(6), generator(0, "u"), rate=0.1, clip=clip)
    assert losses == pytest.approx(expected, rel=1e-4)  # PyTorch divides by the norm plus 1e-6
    assert all(torch.equal(old, p) for old, p in zip(before, parameters, strict=True))  # a copy learns


def test_the_gru_that_resets_first_has_a_gradient_too() -> None:
    net, step = layer("reset-first"), 1e-6
    inputs = torch.randn(5, 2, 4, dtype=torch.float64, generator=generator(0, "x"))
    learner = Learner(Stack("s", ((net,),)), generator(0, "u"))
    _, _, gradients = learner.gradient(inputs)

    def loss(**changed: Tensor) -> float:
        moved = Learner(Stack("s", ((replace(net, **changed),),)), generator(0, "u"))  # type: ignore[arg-type]
        return moved.gradient(inputs)[0]

    for (name, parameter), gradient in zip(net.parameters.items(), gradients, strict=False):
        assert gradient is not None
        for index in range(parameter.numel()):
            nudge = torch.zeros_like(parameter)
            nudge.view(-1)[index] = step
            difference = loss(**{name: parameter + nudge}) - loss(**{name: parameter - nudge})
            assert difference / (2 * step) == pytest.approx(float(gradient.view(-1)[index]), abs=1e-7, rel=1e-5)


def advice(ill: Patient) -> Advised:
    return TRAINING["clip"].advise(ill, lambda: sound_net(ill))


def test_the_share_that_clipping_cuts_is_counted() -> None:
    ill = patient(sigma=3.0, input_scale=0.05, hidden=40)
    figures = advice(ill).figures
    stream = generator(ill.settings.seed, "clip")
    _, norms = losses_of_pytorch(ill.stack, list(batches(ill, BATCHES)), stream, rate=0.0, clip=1e99)
    assert figures["share_over"] == sum(norm > figures["threshold"] for norm in norms) / len(norms)
    assert figures["median"] == pytest.approx(sorted(norms)[(len(norms) - 1) // 2])


def test_a_few_large_updates_do_not_set_the_typical_norm() -> None:
    norms = UpdateNorms((1.0,) * 9 + (1e9,))
    assert (norms.typical, norms.share_over(1.0), norms.median) == (1.0, 0.1, 1.0)


@pytest.mark.parametrize(("sigma", "seed"), [(2.2, 0), (2.6, 2), (3.2, 0)])
def test_an_exploding_net_trains_with_the_advised_threshold_and_diverges_without(sigma: float, seed: int) -> None:
    """Real training by PyTorch: SGD at 0.1 on another task than the one that the threshold was tried on."""
    ill = patient(sigma=sigma, hidden=32, input_size=2, length=60, seed=seed)
    given = advice(ill)
    c = given.figures["threshold"]
    assert given.helps
    sound = sound_norms(ill, sound_net(ill))
    assert c <= sound.typical * (1 + 1e-9)  # never above what a sound net has
    assert recall_losses(ill, clip=c)[-1] < 2.0
    worst = max(recall_losses(ill, clip=1e30))
    assert not worst < 100.0
    assert not max(recall_losses(ill, clip=1e3)) < 20.0  # what was advised for such nets before


def recall_losses(ill: Patient, *, clip: float, updates: int = 60) -> list[float]:
    """SGD at 0.1 on recalling the first feature of the last input, whose variance is 1."""
    (net,) = ill.stack.layers
    rnn, readout = module(net), torch.nn.Linear(net.hidden_size, 1, dtype=torch.float64)
    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.uniform_(-(net.hidden_size**-0.5), net.hidden_size**-0.5, generator=stream)
    parameters = [*(p for p in rnn.parameters() if p.requires_grad), *readout.parameters()]
    optimizer, losses = torch.optim.SGD(parameters, lr=0.1), []
    for _ in range(updates):
        inputs = torch.randn(60, 32, net.input_size, dtype=torch.float64, generator=stream)
        optimizer.zero_grad()
        loss = (readout(rnn(inputs)[0][-1])[:, 0] - inputs[-1, :, 0]).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.step()
    return [*losses[:-1], sum(losses[-10:]) / len(losses[-10:])]


def test_it_says_where_clipping_alone_is_not_enough() -> None:
    given = advice(patient(sigma=3.0, hidden=40, length=100))
    assert given.figures["share_over"] >= 0.9
    assert "clipping alone does not help enough: it cuts nearly all updates" in given.note
    assert given.figures["loss_unclipped"] > 100 * given.figures["loss"]
    assert given.figures["loss_clipped"] < 2 * given.figures["loss"]
    assert "Without clipping, training diverges" in given.action
    for word in ("mean squared error", "SGD with learning rate 0.1", "targets of unit variance"):
        assert word in given.action


@pytest.mark.parametrize("net", [{"sigma": 0.5}, {"init": "orthogonal"}, {"cell": "lstm", "init": "pytorch"}])
def test_clipping_is_not_advised_where_nothing_explodes(net: dict[str, Any]) -> None:
    given = advice(patient(**net))
    assert not given.helps
    assert "no clipping is needed" in given.action
    assert "threshold" not in given.figures


@pytest.mark.parametrize(
    ("net", "clip", "truncate", "attention"),
    [({"sigma": 0.5}, False, False, True), ({"sigma": 3.0, "input_scale": 0.05, "hidden": 40}, True, True, None)],
)
def test_what_helps_against_which_illness(
    net: dict[str, float], clip: bool, truncate: bool, attention: bool | None
) -> None:
    ill = patient(**net)
    for name, expected in (("clip", clip), ("truncate", truncate), ("attention", attention)):
        treatment = TRAINING[name]
        if expected is None:
            assert treatment.unsuited(ill) is not None
        else:
            assert treatment.unsuited(ill) is None
            assert treatment.advise(ill, lambda: sound_net(ill)).helps is expected


def test_truncation_ends_before_the_band_is_left() -> None:
    ill = patient(sigma=3.0, input_scale=0.05, hidden=40)
    assert ill.gain.gradient is not None
    figures = TRAINING["truncate"].advise(ill, lambda: sound_net(ill)).figures
    by_lag = ill.gain.gradient.log10_by_lag
    reach = int(figures["steps"])
    assert max(by_lag[:reach]) <= 3 < by_lag[reach]


@pytest.mark.parametrize(
    ("gains", "lag"),
    [
        ((-0.1, -0.2, -0.3, -0.4), None),  # 10^-0.4 > 1/4
        ((-0.1, -0.9, -0.2, -2.0), 4),
        ((-0.1, -0.9, -1.2, -2.0), 1),
        ((0.1, 0.0, -1.2, -2.0), 3),
    ],
)
def test_attention_wins_from_where_the_gain_falls_under_one_over_lag_for_good(
    gains: tuple[float, ...], lag: int | None
) -> None:
    assert wins_from(gains) == lag
