"""Summaries of gradients through time over few or dead sequences."""

from __future__ import annotations

import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.probes import Probe
from tests.builders.diagnosed import diagnosed
from tests.oracles.nets import stack


def test_one_sequence_is_not_called_an_interval_of_95_percent() -> None:
    gradient = diagnosed(stack("tanh", 1), probe=Probe(length=30, batch=1)).stacks[0].gradient
    assert gradient is not None
    assert gradient.sequences_to_settle is None


def test_a_dead_sequence_does_not_hide_the_credit_of_the_others() -> None:
    net = RecurrentLayer("r", "relu", torch.ones(3, 1).double(), 0.9 * torch.eye(3).double())
    inputs = torch.ones(4, 20, 1)
    inputs[1] = -1
    gradient = diagnosed(Stack("rnn", ((net,),)), probe=Probe.from_array(inputs)).layers[0].gradient
    assert gradient is not None
    assert 0 < gradient.credit["1"] < 1
    assert gradient.credit_99_steps is not None
