"""The gain alone is the report's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.gain import layer_gain, stack_gain
from rnndiag.measures.measure_stack import measure
from rnndiag.probes import Probe
from rnndiag.trajectory import run_stack
from rnndiag.treatments.layerwise import driven
from rnndiag.treatments.patient import Patient
from tests.oracles.nets import FORMS, layer, stack


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(("levels", "bidirectional"), [(1, False), (2, False), (2, True)])
def test_the_gain_alone_is_the_reports(kind: str, levels: int, bidirectional: bool) -> None:
    net = stack(kind, levels, bidirectional=bidirectional)  # type: ignore[arg-type]
    probe, settings = Probe(length=12, batch=6), Settings(lag=9, treat=False)
    report = diagnose(Model(Source("s", "random"), (net,)), probe, settings)
    measured = stack_gain(run_stack(net, probe.inputs(net)), 9, settings)
    assert measured.verdict == report.stacks[0].verdict
    assert measured.gradient == report.stacks[0].gradient
    if kind != "relu":
        saturated = [each.saturation.rate for each in report.layers if each.saturation]
        assert measured.saturated == pytest.approx(max(saturated))


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(("levels", "bidirectional"), [(1, False), (2, True)])
def test_treatments_start_from_the_gain_that_was_measured_for_the_report(
    kind: str, levels: int, bidirectional: bool
) -> None:
    net = stack(kind, levels, bidirectional=bidirectional)  # type: ignore[arg-type]
    bench = Bench.of(net, Probe(length=12, batch=6), Settings(lag=9))
    gain, patient = measure(bench, lambda stage: None).gain, Patient.of(bench)
    by_layer = tuple(layer_gain(alone, inputs, 9, bench.settings) for alone, inputs in driven(patient))
    assert gain == replace(patient.gain, live=None, by_layer=by_layer)


def test_a_stack_without_a_gradient_has_no_gain_to_start_from() -> None:
    bench = Bench.of(Stack("s", ((layer("relu", scale=1e200),),)), Probe(length=9, batch=6), Settings())
    assert measure(bench, lambda stage: None).gain is None
    assert Patient.of(bench).gain.verdict == "invalid"


def test_states_that_overflow_have_no_gain() -> None:
    net = layer("relu", scale=1e200)
    inputs = torch.ones(9, 2, 4, dtype=torch.float64)
    assert layer_gain(net, inputs, 5, Settings()) == math.inf
