"""Treatments of cells with norms, peepholes and other gates: what suits them, what they get, and what a file keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rnndiag
from rnndiag.cells.gate_functions import GATES
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.measures.gain import layer_gain
from rnndiag.treatments.chrono import Chrono, with_chrono_bias
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.registry import TREATMENTS
from rnndiag.treatments.rescale import Rescale
from rnndiag.treatments.scale_inputs import ScaleInputs
from tests.builders.layernorm_cells import ForJit, PerGate
from tests.builders.live_cells import ListState
from tests.builders.patients import patient
from tests.oracles.nets import variant
from tests.oracles.variants import VARIANTS

GATED = [name for name in VARIANTS if "relu" not in name]


def stack(net: RecurrentLayer) -> Stack:
    return Stack("net", ((net,),))


def exploding(name: str, **options: object) -> Patient:
    """Cells of large gamma explode, whatever the scale of ``W_hh``."""
    net = variant(name, 3, 12, **options)  # type: ignore[arg-type]
    large = {key: value * 6 for key, value in net.extra.items() if key.startswith("norm_") and key.endswith("weight")}
    return patient(stack(net.with_parameters(large)), length=8)


@pytest.mark.parametrize("name", ["fastrnns lstm", "recurrent norm lstm", "haste gru"])
def test_the_scale_of_a_normalized_matrix_is_no_treatment(name: str) -> None:
    one = exploding(name, bias=False)
    ill = replace(one, gain=replace(one.gain, verdict="exploding", saturated=0.9))
    assert Rescale().unsuited(ill) == "a norm of W_hh h makes the scale of W_hh irrelevant"
    net = one.working.layers[0]
    larger = replace(net, weight_hh=net.weight_hh * 8)
    # The step from h_0 = 0, whose variance is eps alone, is the only one that sees the scale.
    gains = [layer_gain(each, one.inputs, one.lag - 1, one.settings) for each in (net, larger)]
    assert gains[0] == pytest.approx(gains[1], abs=0.05)
    from_zero = [layer_gain(each, one.inputs, one.lag, one.settings) for each in (net, larger)]
    assert from_zero[1] - from_zero[0] == pytest.approx(math.log10(8), abs=0.05)
    if name != "recurrent norm lstm":
        assert ScaleInputs().unsuited(ill) == "a norm of W_ih x makes the scale of the inputs irrelevant"


@pytest.mark.parametrize("name", ["icefall lstm", "dreamer gru", "peephole lstm", "hard_sigmoid lstm"])
def test_the_scale_of_other_matrices_may_be_one(name: str) -> None:
    one = patient(stack(variant(name, 3, 12)), length=20)
    ill = replace(one, gain=replace(one.gain, verdict="exploding", saturated=0.9))
    assert Rescale().unsuited(ill) is None
    assert ScaleInputs().unsuited(ill) is None


@pytest.mark.parametrize("name", GATED)
def test_chrono_biases_give_the_gate_the_value_of_a_sigmoid_gate(name: str) -> None:
    """With weights of zero, the gates show their biases alone: they keep for 1 to lag - 1 steps."""
    lag = 40
    net = variant(name, 3, 50)
    weights = {key: torch.zeros_like(value) for key, value in net.parameters.items() if key.startswith("weight")}
    still = {key: torch.zeros_like(value) for key, value in net.extra.items() if key.startswith("peephole")}
    before = {key: torch.zeros_like(value) for key, value in net.parameters.items() if key in ("bias_ih", "bias_hh")}
    treated = with_chrono_bias(net.with_parameters(weights | still | before), lag, torch.Generator().manual_seed(0))
    from rnndiag.trajectory import run_layer

    along = run_layer(treated, torch.zeros(2, 1, 3, dtype=torch.float64)).along
    kept = along.gates[net.kind.family.keeping][0, 0]
    steps = kept / (1 - kept)
    assert float(steps.min()) >= 1 - 1e-9
    assert float(steps.max()) <= lag - 1 + 1e-9
    assert float(steps.max()) > 0.6 * lag
    assert set(treated.extra) == set(net.extra)
    unchanged = set(treated.parameters) - set(net.gate_biases)
    assert all(
        torch.equal(treated.parameters[key], (net.parameters | weights | still | before)[key]) for key in unchanged
    )


@pytest.mark.parametrize("name", ["fastrnns lstm", "dreamer gru"])
def test_norms_without_biases_have_no_chrono(name: str) -> None:
    net = variant(name, 3, 6)
    bare = replace(net, extra={key: value for key, value in net.extra.items() if "bias" not in key})
    assert Chrono().unsuited(patient(stack(bare), length=20)) == "it has no biases"


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_turned_round(name: str) -> None:
    log_odds = torch.linspace(-4, 4, 41, dtype=torch.float64)
    value = GATES[name].value(GATES[name].preactivation(log_odds))
    torch.testing.assert_close(value, log_odds.sigmoid(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_treatment_keeps_the_cell(name: str) -> None:
    one = patient(stack(variant(name, 3, 6)), length=12)
    for treatment in TREATMENTS.values():
        if treatment.unsuited(one) is None and treatment.same_architecture:
            (after,) = treatment.apply(one).stack.layers
            (before,) = one.stack.layers
            assert (after.cell, after.form) == (before.cell, before.form)
            assert {k: v.shape for k, v in after.parameters.items()} == {
                k: v.shape for k, v in before.parameters.items()
            }


@pytest.mark.parametrize("cls", [ForJit, PerGate, ListState])
@pytest.mark.parametrize("take", ["chrono", "init-orthogonal"])
def test_a_written_file_changes_in_the_treated_numbers_only(cls: type[nn.Module], take: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before: dict[str, Tensor] = {f"net.{name}": value for name, value in cls().state_dict().items()}
    torch.save(before, tmp_path / "model.pt")
    given = rnndiag.prescribe(tmp_path / "model.pt", take=take, save=tmp_path / "new.pt", length=25, batch=4)
    after: dict[str, Tensor] = torch.load(tmp_path / "new.pt")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert before.keys() == after.keys()
    norms = {name for name in before if "norm" in name}
    if take == "chrono":
        assert changed <= {name for name in norms if name.endswith("bias")}
    else:
        assert not changed & norms
    assert given.after is not None
    again = rnndiag.inspect(tmp_path / "new.pt", length=25, batch=4)
    assert again.layers == given.after.layers
