"""The gain alone is the report's."""

from __future__ import annotations

import math

import pytest
import torch

from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.gain import layer_gain, stack_gain
from rnndiag.probes import Probe
from tests.oracles.nets import FORMS, layer, stack


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(("levels", "bidirectional"), [(1, False), (2, False), (2, True)])
def test_the_gain_alone_is_the_reports(kind: str, levels: int, bidirectional: bool) -> None:
    net, probe, settings = stack(kind, levels, bidirectional=bidirectional), Probe(length=12, batch=6), Settings(lag=9)  # type: ignore[arg-type]
    report = diagnose(Model(Source("s", "random"), (net,)), probe, settings)
    measured = stack_gain(net, probe.inputs(net), 9, settings)
    assert measured.verdict == report.stacks[0].verdict
    assert measured.gradient == report.stacks[0].gradient
    if kind != "relu":
        saturated = [each.saturation.rate for each in report.layers if each.saturation]
        assert measured.saturated == pytest.approx(max(saturated))


def test_states_that_overflow_have_no_gain() -> None:
    net = layer("relu", scale=1e200)
    inputs = torch.ones(9, 2, 4, dtype=torch.float64)
    assert layer_gain(net, inputs, 5, Settings()) == math.inf
