"""The summary of a report agrees with its verdict and with the thresholds in force."""

from __future__ import annotations

import math

import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config.settings import Settings, Thresholds
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.report import Report
from rnndiag.rules.words import power
from tests.builders.diagnosed import diagnosed


def rising_then_falling(length: int) -> Report:
    """Gradients that grow over the last steps and are gone further back."""
    net = RecurrentLayer("rnn.l0", "tanh", torch.ones(4, 1).double(), 3 * torch.eye(4).double())
    inputs, h = [], 0.0
    for t in range(length):
        x = 2.0 if t < length - 9 else -3 * h
        h = math.tanh(3 * h + x)
        inputs.append([x])
    return diagnosed(Stack("rnn", ((net,),)), probe=Probe.from_array(torch.tensor([inputs]).double()))


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
