"""Cases that once went wrong: each net here had a false number or a false word."""

from __future__ import annotations

import math

import pytest
import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings, Thresholds
from rnndiag.diagnose import diagnose
from rnndiag.measures.lyapunov import lyapunov
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.report import Report
from rnndiag.rules.words import power
from rnndiag.seeds import generator
from rnndiag.trajectory import run_layer
from tests.oracles.nets import FORMS, layer, stack


def report(*stacks: Stack, probe: Probe | None = None, **settings: object) -> Report:
    model = Model(Source("made here", "random"), stacks)
    return diagnose(model, probe or Probe(length=30, batch=8), Settings(**settings))


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacks_in_float32(kind: str, bidirectional: bool) -> None:
    nets = stack(kind, 2, bidirectional=bidirectional)
    double, single = (report(nets, dtype=dtype) for dtype in ("float64", "float32"))
    one, two = (each.stacks[0].gradient for each in (double, single))
    assert one is not None
    assert two is not None
    assert two.log10_gain == pytest.approx(one.log10_gain, abs=0.05)


def test_annihilated_directions_do_not_come_back_as_noise() -> None:
    """A single step of rank one leaves a product of rank one: two exponents are minus infinity."""
    weight = torch.tensor([[1, 0.5, 0], [0.5, 1, 0.3], [0.2, 0.1, 0.9]]).double()
    net = RecurrentLayer("r", "relu", torch.eye(3).double(), weight)
    inputs = torch.ones(50, 1, 3).double()
    inputs[20] = torch.tensor([1, -1e6, -1e6])
    jacobian = run_layer(net, inputs).along.state_jacobian
    assert int(torch.linalg.matrix_rank(jacobian[20, 0].to_dense())) == 1
    measured = lyapunov(jacobian, inputs, "all", 50, -3.0, generator=generator(0, "test"))
    assert measured.exponents[0] > 0
    assert measured.exponents[1:] == (-math.inf, -math.inf)
    assert measured.live_directions == 1


def test_weights_and_probe_share_no_numbers() -> None:
    net = RandomNet(hidden=64, input_size=64, seed=0).build().stacks[0]
    drawn = net.layers[0].weight_hh.flatten() * 8
    inputs = Probe(seed=0).inputs(net).flatten()
    rounded = {round(value, 9) for value in inputs.tolist()}
    assert not rounded & {round(value, 9) for value in drawn.tolist()}


def rising_then_falling(length: int) -> Report:
    """Gradients that grow over the last steps and are gone further back."""
    net = RecurrentLayer("rnn.l0", "tanh", torch.ones(4, 1).double(), 3 * torch.eye(4).double())
    inputs, h = [], 0.0
    for t in range(length):
        x = 2.0 if t < length - 9 else -3 * h
        h = math.tanh(3 * h + x)
        inputs.append([x])
    return report(Stack("rnn", ((net,),)), probe=Probe.from_array(torch.tensor([inputs]).double()))


def test_prose_speaks_of_the_side_that_the_verdict_is_on() -> None:
    measured = rising_then_falling(13)
    gradient = measured.stacks[0].gradient
    assert gradient is not None
    assert measured.verdict == "vanishing"
    assert gradient.horizon == 7  # where the gradient first leaves the band: upwards
    assert gradient.settled_from is not None
    assert gradient.settled_from > 10
    assert all(value < -3 for value in gradient.log10_by_lag[gradient.settled_from - 1 :])
    assert gradient.log10_by_lag[gradient.settled_from - 2] >= -3
    assert f"more than {gradient.settled_from} steps ago" in measured.summary


def test_a_healthy_net_says_so_if_its_gradient_peaks_in_between() -> None:
    measured = rising_then_falling(11)
    assert measured.verdict == "healthy"
    assert "though at lag 7 it is" in measured.summary


def test_one_sequence_is_not_called_an_interval_of_95_percent() -> None:
    gradient = report(stack("tanh", 1), probe=Probe(length=30, batch=1)).stacks[0].gradient
    assert gradient is not None
    assert gradient.sequences_to_settle is None


def test_standard_error_is_no_smaller_than_the_spread_says() -> None:
    net = RandomNet("lstm", hidden=16, input_size=4, init="pytorch", forget_bias=3.0).build()
    measured = diagnose(net, Probe(length=100, batch=16)).layers[0].lyapunov
    assert measured is not None
    for error, spread in zip(measured.standard_errors, measured.spread, strict=True):
        assert error >= spread / 4 * (1 - 1e-9)


def test_a_broken_layer_does_not_get_its_neighbours_accused() -> None:
    nets = stack("tanh", 3)
    nets.layers[0].weight_hh[0, 0] = math.nan
    measured = report(nets)
    assert {(f.rule, f.layer) for f in measured.findings} == {("NUM001", "rnn.l0")}
    assert {n.reason for n in measured.not_assessed if n.rule == "NUM002" and n.layer != "rnn.l0"} == {
        "its inputs are not finite"
    }
    assert "rnn.l0 holds weights that are NaN" in measured.summary


def test_a_broken_embedding_is_no_healthy_model() -> None:
    net = layer("gru", 3, 8)
    table = torch.ones(5, 3)
    table[2, 1] = math.nan
    measured = report(Stack("rnn", ((net,),), table))
    assert measured.verdict == "invalid"
    assert measured.layers[0].numerics.nonfinite_parameters == {"embedding": 1}
    assert "embedding" in measured.summary


def test_a_dead_sequence_does_not_hide_the_credit_of_the_others() -> None:
    net = RecurrentLayer("r", "relu", torch.ones(3, 1).double(), 0.9 * torch.eye(3).double())
    inputs = torch.ones(4, 20, 1)
    inputs[1] = -1
    gradient = report(Stack("rnn", ((net,),)), probe=Probe.from_array(inputs)).layers[0].gradient
    assert gradient is not None
    assert 0 < gradient.credit["1"] < 1
    assert gradient.credit_99_steps is not None


def test_a_gate_that_is_wide_open_keeps_for_ever() -> None:
    net = RandomNet("lstm", hidden=8, input_size=2, forget_bias=60.0).build()
    gate = diagnose(net, Probe(length=10, batch=2), Settings(dtype="float32")).layers[0].gates["forget"]
    assert gate.time_constant is not None
    assert (
        math.exp(58) < gate.time_constant < math.exp(62)
    )  # -1 / log sigmoid(a) at about a = 60, where sigmoid(a) is 1


def test_growth_of_a_relu_net_is_not_called_chaos() -> None:
    measured = diagnose(RandomNet("relu", sigma=2.0).build(), Probe(length=64))
    assert measured.verdict == "exploding"
    assert "EXP002" not in {finding.rule for finding in measured.findings}


def test_units_are_dead_only_beside_live_ones() -> None:
    at_rest = diagnose(RandomNet("relu", hidden=9).build(), Probe("zeros", length=20, batch=1)).layers[0]
    small = diagnose(RandomNet(init="orthogonal", hidden=9).build(), Probe(length=20, scale=1e-12)).layers[0]
    for each in (at_rest, small):
        assert each.saturation is not None
        assert each.saturation.dead_units == 0


def test_huge_weights_keep_their_nonnormality() -> None:
    net = layer("tanh", 2, 12)
    before = report(Stack("rnn", ((net,),))).layers[0].recurrent_weight
    net.weight_hh.mul_(1e200)
    after = report(Stack("rnn", ((net,),))).layers[0].recurrent_weight
    assert before is not None
    assert after is not None
    assert after.nonnormality == pytest.approx(before.nonnormality, rel=1e-9)


def test_choosing_a_layer_leaves_out_the_findings_of_the_others() -> None:
    measured = report(stack("tanh", 2), layers="rnn.l0")
    assert {finding.layer for finding in measured.findings} <= {"rnn", "rnn.l0"}


def test_words_and_report_go_by_the_thresholds_in_force() -> None:
    measured = diagnose(
        RandomNet(sigma=0.9, hidden=24).build(), Probe(length=60), Settings(thresholds=Thresholds(vanishing=-1.0))
    )
    (gradient,) = (each.gradient for each in measured.stacks)
    assert gradient is not None
    assert gradient.settled_from is not None
    assert measured.thresholds.vanishing == -1.0
    there = max(gradient.log10_by_lag[gradient.settled_from - 1 :])
    assert -3 < there < -1
    attention = [s for f in measured.findings for s in f.suggestions if s.checklist == "attention"]
    assert f"passes {power(there)} or less" in attention[0].evidence


def test_a_constant_weight_has_no_bulk_to_divide_by() -> None:
    net = RecurrentLayer("r", "tanh", torch.ones(4, 2).double(), torch.full((4, 4), 0.5).double())
    assert "SPC002" in {finding.rule for finding in report(Stack("rnn", ((net,),))).findings}
