"""What the rules say of leaky nets: nothing that holds for Elman nets alone, and whether a reservoir forgets."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.renderers import table
from tests.oracles.leaky import LEAKY, layer, step

ELMAN_RULES = {"INI002", "SPC001", "SPC002", "SPC003", "VAN003"}


def report_of(net, *, treat: bool = False, length: int = 100, **probe):
    model = Model(Source("net", "random"), (Stack("rnn", ((net,),)),))
    return diagnose(model, Probe(length=length, batch=8, **probe), Settings(treat=treat))


@pytest.mark.parametrize("kind", LEAKY)
def test_all_is_measured_and_elman_rules_are_excluded_with_the_true_reason(kind: str) -> None:
    report = report_of(layer(kind, 3, 12, scale=0.8))
    (measured,) = report.layers
    assert measured.cell == kind
    for part in ("recurrent_weight", "jacobian", "gradient", "lyapunov", "saturation", "states"):
        assert getattr(measured, part) is not None
    assert measured.gradient.credit is not None
    assert measured.gradient.contraction_guaranteed is None
    excluded = {each.rule: each.reason for each in report.not_applicable}
    assert excluded.keys() >= ELMAN_RULES
    for rule in ELMAN_RULES - {"INI002"}:
        assert excluded[rule] == f"{kind} layers have a leak"


def test_the_table_does_not_speak_of_gates() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table.render([report_of(layer("leaky_tanh", 3, 12))]))
    text = console.export_text()
    assert "nothing: the leak counts" in text
    assert "gates decide" not in text


@pytest.mark.parametrize("kind", LEAKY)
def test_a_vanishing_net_gets_only_suggestions_that_help(kind: str) -> None:
    report = report_of(layer(kind, 3, 12, scale=0.3, alpha=0.5), treat=True, length=50)
    (finding,) = (each for each in report.findings if each.rule == "VAN001")
    treated = {each.treatment: each for each in finding.suggestions if each.treatment}
    assert {"rescale", "lower-leak"} <= treated.keys()
    assert "nearest-orthogonal" not in treated
    assert all(treated[name].after > finding.evidence["log10_gain"] for name in ("rescale", "lower-leak"))


def test_an_assumed_nonlinearity_is_compared_with_the_other() -> None:
    for kind in ("leaky_tanh", "leaky_current_tanh"):
        net = replace(layer(kind, 3, 12, scale=2.0, alpha=0.6), nonlinearity_assumed=True)
        (stack,) = report_of(net).stacks
        other = report_of(replace(net, cell=kind.replace("tanh", "relu"), nonlinearity_assumed=False)).stacks[0]
        assert (stack.alternative.assumed, stack.alternative.nonlinearity) == ("tanh", "relu")
        assert stack.alternative.verdict == other.verdict
        if other.gradient is not None:
            assert stack.alternative.log10_gain == pytest.approx(other.gradient.log10_gain)


def apart(net, inputs: torch.Tensor) -> float:
    """log10 of how far two runs from different initial states are apart at the end."""
    one = torch.zeros(inputs.shape[1], net.hidden_size, dtype=torch.float64)
    two = one + 1e-3
    for x in inputs:
        one, two = step(net, one, x), step(net, two, x)
    return float(((one - two).norm() / 1e-3).log10())


@pytest.mark.parametrize(("scale", "input_scale", "holds"), [(0.5, 1.0, True), (4.0, 0.05, False), (1.6, 1.0, True)])
def test_the_echo_state_verdict_is_whether_two_runs_come_together(
    scale: float, input_scale: float, holds: bool
) -> None:
    net = layer("leaky_tanh", 2, 60, scale=scale, alpha=0.7, bias=False)
    report = report_of(net, length=300, scale=input_scale)
    inputs = input_scale * torch.randn(300, 4, 2, dtype=torch.float64)
    assert (apart(net, inputs) < -3) == holds
    said = any("echo-state property of rnn.l0 holds under this probe" in note for note in report.notes)
    found = any(each.rule == "EXP004" for each in report.findings)
    assert (said, found) == (holds, not holds)
    if scale > 1:  # the spectral radius alone would have said no in both cases
        assert report.layers[0].recurrent_weight.spectral_radius > 1


def test_near_zero_the_question_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(layer("leaky_tanh", 2, 8, scale=0.5))
    (measured,) = report.layers
    spectrum = measured.lyapunov
    from rnndiag.rules.echo_state import echo_state_notes

    unclear = replace(spectrum, exponents=(1e-3, *spectrum.exponents[1:]))
    unclear = replace(unclear, standard_errors=(1e-3, *spectrum.standard_errors[1:]))
    (note,) = echo_state_notes([replace(measured, lyapunov=unclear)])
    assert "is open" in note


def test_other_cells_have_no_echo_state_verdict() -> None:
    from tests.oracles.nets import layer as plain

    report = report_of(plain("tanh"))
    assert not any("echo-state" in note for note in report.notes)
    (excluded,) = (each for each in report.not_applicable if each.rule == "EXP004")
    assert excluded.reason == "the rule is about leaky RNNs and reservoirs, not tanh layers"
