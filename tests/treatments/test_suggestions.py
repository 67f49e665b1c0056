"""Suggestions in findings: each improves the finding's own evidence, and each says what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rnndiag
from rnndiag import RandomNet, Report
from rnndiag.renderers.json import render
from rnndiag.rules.registry import RULES
from rnndiag.treatments.registry import TREATMENTS

NETS = {
    "saturated by its inputs": RandomNet(hidden=32, input_size=3, init="orthogonal", input_scale=8.0),
    "saturated by itself": RandomNet(hidden=32, input_size=3, sigma=4.0, input_scale=0.3),
    "chaotic": RandomNet(hidden=32, input_size=3, sigma=3.0, input_scale=0.1),
    "forget gate shut": RandomNet("lstm", 16, 3, forget_bias=-9.0),
    "gates stuck": RandomNet("lstm", 16, 3, bias_scale=300.0),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    return {name: rnndiag.simulate(net, length=60, batch=8) for name, net in NETS.items()}


@pytest.mark.parametrize("name", NETS)
def test_a_suggestion_improves_the_number_that_the_finding_is_about(name: str, reports: dict[str, Report]) -> None:
    grows_worse = {rule.code: rule.grows_worse for rule in RULES}
    checked = 0
    for finding in reports[name].findings:
        for suggestion in finding.suggestions:
            if suggestion.evidence_before is not None:
                assert suggestion.evidence_before == finding.evidence[grows_worse[finding.rule]]
                assert suggestion.evidence_after is not None
                assert suggestion.evidence_after < suggestion.evidence_before
                checked += 1
    assert checked


def test_inputs_are_not_scaled_up_where_that_saturates_more(reports: dict[str, Report]) -> None:
    """Scaling them up quenches the chaos, so it helps the verdict, and saturates more units."""
    report = reports["saturated by itself"]
    (finding,) = (f for f in report.findings if f.rule == "SAT001")
    result = rnndiag.prescribe(NETS["saturated by itself"], length=60, batch=8, treatments="scale-inputs")
    (scaled,) = (t for t in result.treatments if t.name == "scale-inputs")
    assert scaled.helps
    assert scaled.saturated > finding.evidence["rate"]  # type: ignore[operator]
    assert [s.treatment for s in finding.suggestions] == ["rescale"]


@pytest.mark.parametrize(("name", "rule"), [("saturated by its inputs", "SAT001"), ("chaotic", "EXP002")])
def test_the_number_after_a_treatment_is_that_of_the_report_on_the_treated_net(
    name: str, rule: str, reports: dict[str, Report]
) -> None:
    (finding,) = (f for f in reports[name].findings if f.rule == rule)
    suggestion = next(s for s in finding.suggestions if s.evidence_after is not None)
    assert suggestion.treatment is not None
    after = rnndiag.prescribe(NETS[name], length=60, batch=8, take=suggestion.treatment).after
    assert after is not None
    (layer,) = after.layers
    assert layer.saturation is not None
    assert layer.lyapunov is not None
    measured = {"SAT001": layer.saturation.rate, "EXP002": layer.lyapunov.exponents[0]}
    assert suggestion.evidence_after == pytest.approx(measured[rule], rel=1e-9)


@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_saturated_column_is_what_inspect_says(cell: str, layers: int) -> None:
    net = RandomNet(cell, 16, 3, layers=layers, sigma=2.5 if cell == "relu" else 0.3)  # type: ignore[arg-type]
    result = rnndiag.prescribe(net, length=40, batch=8, take="init-orthogonal", treatments="init-orthogonal")
    (treated,) = result.treatments
    assert result.after is not None
    assert treated.saturated == max(each.saturation.rate for each in result.after.layers if each.saturation)
    if cell == "relu":
        assert treated.saturated > 0.2
        assert not treated.mostly_saturated


@pytest.mark.parametrize("net", [NETS["chaotic"], NETS["forget gate shut"]])
def test_every_treatment_of_layers_says_what_it_costs(net: RandomNet) -> None:
    lost = {"weights": "no longer fit", "architecture": "the trained weights are lost", "redrawn": "are reset"}
    result = rnndiag.prescribe(net, length=40, batch=4)
    seen = set()
    for each in result.treatments:
        if each.kind != "training":
            kind = "redrawn" if each.redraws and each.same_architecture else each.kind
            assert lost[kind] in each.cost
            assert each.redraws == any(TREATMENTS[member].redraws for member in each.members)
            seen.add(kind)
    assert seen >= {"weights", "redrawn"}
    document = render([rnndiag.simulate(net, length=40, batch=4)])
    assert '"cost": "the readout and the layers above' in document


def test_a_readout_no_longer_fits_after_the_matrix_is_made_orthogonal(tmp_path: Path) -> None:
    """Real training: the loss of a trained net rises when W_hh is replaced, which is what the cost says."""
    torch.manual_seed(0)
    net, head = nn.RNN(2, 16), nn.Linear(16, 1)
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    inputs = torch.randn(12, 128, 2)
    target = inputs[-1, :, :1] * inputs[-2, :, :1]

    def loss(rnn: nn.RNN) -> Tensor:
        return nn.functional.mse_loss(head(rnn(inputs)[0][-1]), target)

    for _ in range(150):
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()
    path, save = tmp_path / "net.pt", tmp_path / "treated.pt"
    torch.save(net.state_dict(), path)
    result = rnndiag.prescribe(
        path, length=60, batch=4, treatments="nearest-orthogonal", take="nearest-orthogonal", save=save
    )
    treated = nn.RNN(2, 16)
    treated.load_state_dict(torch.load(save))
    with torch.no_grad():
        assert float(loss(treated)) > 2 * float(loss(net))
    assert "no longer fit: keep training" in result.treatments[0].cost
