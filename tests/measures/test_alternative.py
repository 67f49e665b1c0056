"""The verdict under the nonlinearity that was not assumed, compared with autograd and with a report under it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import rnndiag
from rnndiag.cells.layer import Stack
from rnndiag.checkpoint import load
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.alternative import as_assumed
from rnndiag.probes import Probe
from rnndiag.report import Report
from rnndiag.seeds import generator
from tests.oracles.autograd import carried_adjoints
from tests.oracles.nets import layer

PROBE = Probe(length=30, batch=6)
QUIET = Settings(treat=False)


def saved_relu(save, scale: float = 1.75, **options):
    """A state_dict of ``nn.RNN(nonlinearity="relu")``, ``W_hh ~ N(0, scale^2/H)``, as CI meets it."""
    torch.manual_seed(0)
    rnn = nn.RNN(8, 64, nonlinearity="relu", **options)
    with torch.no_grad():
        for name, weight in rnn.named_parameters():
            if name.startswith("weight_hh"):
                weight.normal_(0, scale / 8)
    return rnn, save(rnn.state_dict())


@pytest.fixture
def save(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return write


def stack_of(cell: str, form: str, *, assumed: bool) -> Stack:
    def one(name: str, inputs: int, **options: object):
        net = layer(cell, inputs, 12, name=name, seed=len(name), **options)  # type: ignore[arg-type]
        return replace(net, nonlinearity_assumed=assumed)

    if form == "one layer":
        return Stack("rnn", ((one("rnn.l0", 4),),))
    if form == "two layers":
        return Stack("rnn", ((one("rnn.l0", 4),), (one("rnn.top.l1", 12),)))
    return Stack("rnn", ((one("rnn.l0", 4), one("rnn.l0.reverse", 4, reverse=True)),))


def measured(stack: Stack) -> Report:
    return diagnose(Model(Source("made here", "random"), (stack,)), PROBE, QUIET)


@pytest.mark.parametrize("form", ["one layer", "two layers", "two directions"])
def test_it_is_what_a_report_under_that_nonlinearity_says(form: str) -> None:
    of_tanh, of_relu = (measured(stack_of(cell, form, assumed=False)) for cell in ("tanh", "relu"))
    assumed = measured(stack_of("tanh", form, assumed=True))
    pairs = [
        *zip(of_tanh.stacks, of_relu.stacks, assumed.stacks, strict=True),
        *zip(of_tanh.layers, of_relu.layers, assumed.layers, strict=True),
    ]
    for tanh, relu, undecided in pairs:
        other = undecided.alternative
        assert other is not None
        assert (other.assumed, other.nonlinearity) == ("tanh", "relu")
        assert (other.assumed_verdict, other.verdict) == (tanh.verdict, relu.verdict)
        assert other.log10_gain == pytest.approx(relu.gradient.log10_gain, abs=1e-9)
        assert undecided.verdict == (tanh.verdict if tanh.verdict == relu.verdict else "inconclusive")
        assert as_assumed(undecided).verdict == tanh.verdict
        assert undecided.gradient == tanh.gradient  # all other numbers are those of the assumption


def test_the_gain_is_autograds() -> None:
    stack = stack_of("relu", "one layer", assumed=False)
    (only,) = stack.layers
    inputs = PROBE.inputs(stack).double()
    draws = torch.randn(4, 6, 12, generator=generator(0, "gradient"), dtype=torch.float64)
    logs = []
    for draw in draws / draws.norm(dim=-1, keepdim=True):
        carried, _ = carried_adjoints(stack, inputs, {only.name: draw})
        logs.append(carried[only.name][0].norm(dim=-1).log10())
    expected = float(torch.stack(logs).mean(0).median())
    (found,) = measured(stack_of("tanh", "one layer", assumed=True)).stacks
    # The directions of the gradient are random: the median over six sequences moves by a few tenths.
    assert found.alternative is not None
    assert found.alternative.log10_gain == pytest.approx(expected, abs=0.5)


def test_a_relu_net_that_explodes_is_not_called_healthy(save) -> None:
    """10^7.7 over 100 steps; with tanh the same weights are healthy."""
    found = []
    for scale in (1.45, 1.5, 1.55, 1.6, 1.65, 1.7, 1.75):
        _, path = saved_relu(save, scale)
        report = rnndiag.inspect(path, settings=QUIET)
        with_relu = rnndiag.inspect(path, settings=QUIET, nonlinearity="relu")
        (stack,) = report.stacks
        assert stack.alternative is not None
        assert stack.alternative.verdict == with_relu.verdict
        codes = {finding.rule: finding.severity for finding in report.findings}
        if stack.alternative.assumed_verdict != with_relu.verdict:
            found.append((stack.alternative.assumed_verdict, with_relu.verdict))
            assert (report.verdict, codes["ASM001"]) == ("inconclusive", "warning")
            assert "--nonlinearity tanh or relu decides" in report.summary
            assert not {"VAN001", "EXP001"} & codes.keys()
            (finding,) = (each for each in report.findings if each.rule == "ASM001")
            for word in ("with tanh", "with relu", with_relu.verdict, stack.alternative.assumed_verdict):
                assert word in finding.message
            assert "--nonlinearity tanh or --nonlinearity relu" in finding.suggestions[0].action
        else:
            assert report.verdict == with_relu.verdict
            assert "ASM001" not in codes
        assert "ASM001" not in {finding.rule for finding in with_relu.findings}
        assert all(stack.alternative is None for stack in with_relu.stacks)
    assert ("healthy", "exploding") in found


def test_states_that_overflow_have_no_gain() -> None:
    net = replace(layer("tanh", 3, 4, scale=1e200), nonlinearity_assumed=True)
    (stack,) = measured(Stack("rnn", ((net,),))).stacks
    assert stack.alternative is not None
    assert (stack.verdict, stack.alternative.verdict, stack.alternative.log10_gain) == ("inconclusive", "invalid", None)


def test_broken_weights_are_broken_under_both() -> None:
    net = replace(layer("tanh", 3, 4), nonlinearity_assumed=True)
    net.weight_hh[0, 0] = math.nan
    report = measured(Stack("rnn", ((net,),)))
    assert (report.verdict, report.stacks[0].alternative) == ("invalid", None)
    assert "ASM001" in {item.rule for item in report.not_applicable}


def test_nothing_is_assumed_of_a_file_that_says_it(tmp_path, save) -> None:
    rnn, _ = saved_relu(save)
    torch.save(rnn, tmp_path / "module.pt")
    torch.save({"state_dict": rnn.state_dict(), "config": {"nonlinearity": "relu"}}, tmp_path / "settings.pt")
    for name in ("module.pt", "settings.pt"):
        path = tmp_path / name
        assert not any(each.nonlinearity_assumed for stack in load(path).stacks for each in stack.layers)
        report = rnndiag.inspect(path, settings=QUIET)
        assert (report.verdict, report.stacks[0].alternative) == ("exploding", None)
        assert "EXP001" in {finding.rule for finding in report.findings}
    assert rnndiag.inspect(rnn, settings=QUIET).stacks[0].alternative is None
