"""Advice on training against brute force."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rnndiag.cells.layer import Stack
from rnndiag.measures.update_norms import summarise, update_norms
from rnndiag.seeds import generator
from rnndiag.treatments import TRAINING
from rnndiag.treatments.attention import wins_from
from rnndiag.treatments.clip import batches, measured_norms
from tests.oracles.nets import FORMS, layer, module, stack
from tests.treatments.patients import patient


def brute_force(net: Stack, inputs: Tensor, stream: torch.Generator) -> float:
    """``||dL/dparameters||`` by PyTorch's own modules, one sequence at a time, the loss the documented readout."""
    modules = [[module(la) for la in level] for level in net.levels]
    parameters = [p for level in modules for m in level for p in m.parameters()]
    outputs: list[Tensor] = []
    fed = inputs
    for level, built in zip(net.levels, modules, strict=True):
        outputs = [m(fed.flip(0) if la.direction == "reverse" else fed)[0] for la, m in zip(level, built, strict=True)]
        fed = torch.cat(
            [o.flip(0) if la.direction == "reverse" else o for o, la in zip(outputs, level, strict=True)], -1
        )
    last = torch.cat([o[-1] for o in outputs], -1)
    readout = torch.randn(last.shape, dtype=torch.float64, generator=stream)
    loss = sum((row / row.norm()) @ h for row, h in zip(readout, last, strict=True)) / len(last)
    total = [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True)
    ]  # type: ignore[arg-type]
    return float(torch.cat([g.flatten() for g in total]).norm())


@pytest.mark.parametrize("kind", [form for form in FORMS if form != "reset-first"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_norms_of_updates_are_autograds(kind: str, bidirectional: bool) -> None:
    net = stack(kind, 2, bidirectional=bidirectional)  # type: ignore[arg-type]
    inputs = [torch.randn(7, 3, 3, dtype=torch.float64, generator=generator(i, "x")) for i in range(3)]
    measured = update_norms(net, inputs, generator=generator(0, "u"))
    stream = generator(0, "u")
    assert measured == pytest.approx([brute_force(net, each, stream) for each in inputs])


def test_the_gru_that_resets_first_has_a_gradient_too() -> None:
    net, step = layer("reset-first"), 1e-6
    inputs = torch.randn(5, 2, 4, dtype=torch.float64, generator=generator(0, "x"))
    (norm,) = update_norms(Stack("s", ((net,),)), [inputs], generator=generator(0, "u"))
    readout = torch.randn(2, 6, dtype=torch.float64, generator=generator(0, "u"))
    readout /= readout.norm(dim=-1, keepdim=True)

    def loss(**changed: Tensor) -> float:
        from rnndiag.cells import cell_of

        moved = replace(net, **changed)  # type: ignore[arg-type]
        return float((cell_of(moved).hidden_states(moved, inputs)[-1] * readout).sum() / 2)

    squares = 0.0
    for name, parameter in net.parameters.items():
        for index in range(parameter.numel()):
            nudge = torch.zeros_like(parameter)
            nudge.view(-1)[index] = step
            difference = loss(**{name: parameter + nudge}) - loss(**{name: parameter - nudge})
            squares += (difference / (2 * step)) ** 2
    assert norm == pytest.approx(squares**0.5, rel=1e-6)


def test_the_share_that_clipping_touches_is_counted() -> None:
    ill = patient(sigma=3.0, input_scale=0.05, hidden=40)
    found = measured_norms(ill)
    stream = generator(ill.settings.seed, "clip")
    norms = [brute_force(ill.stack, batch, stream) for batch in batches(ill)]
    assert found.norms == pytest.approx(sorted(norms))
    assert found.share_over == sum(norm > found.threshold for norm in norms) / len(norms)
    assert ill.gain.gradient is not None
    assert ill.gain.gradient.horizon is not None


def test_neither_the_tail_nor_the_explosion_sets_the_threshold() -> None:
    found = summarise([1.0] * 9 + [1e9], [1.0] * 9 + [1e9])
    assert (found.threshold, found.share_over, found.median) == (1.0, 0.1, 1.0)
    assert summarise([1e6] * 10, [2.0] * 10).threshold == 2.0


@pytest.mark.parametrize(
    ("net", "clip", "truncate", "attention"),
    [({"sigma": 0.5}, False, False, True), ({"sigma": 3.0, "input_scale": 0.05, "hidden": 40}, True, True, None)],
)
def test_what_helps_against_which_illness(
    net: dict[str, float], clip: bool, truncate: bool, attention: bool | None
) -> None:
    ill = patient(**net)
    for name, expected in (("clip", clip), ("truncate", truncate), ("attention", attention)):
        advice = TRAINING[name]
        if expected is None:
            assert advice.unsuited(ill) is not None
        else:
            assert advice.unsuited(ill) is None
            assert advice.advise(ill).helps is expected


def test_truncation_ends_before_the_band_is_left() -> None:
    ill = patient(sigma=3.0, input_scale=0.05, hidden=40)
    assert ill.gain.gradient is not None
    figures = TRAINING["truncate"].advise(ill).figures
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
