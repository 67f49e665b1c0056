"""Treatments of layers against autograd, closed forms and the laws they are named for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.measures.statistics import median
from rnndiag.seeds import generator
from rnndiag.treatments.nearest_orthogonal import polar_factor
from rnndiag.treatments.patient import Patient
from rnndiag.treatments.registry import TREATMENTS
from tests.builders.patients import LENGTH, patient
from tests.oracles import autograd
from tests.oracles.nets import layer, module

ILL = {
    "vanishing": {"sigma": 0.5},
    "exploding": {"sigma": 3.0, "input_scale": 0.05, "hidden": 40},
    "ReLU": {"cell": "relu", "sigma": 2.2},
    "ReLU that overflows": {"cell": "relu", "sigma": 60.0, "length": 200},
}


DRIVEN = {
    "vanishing": {"init": "orthogonal", "input_scale": 3.0},
    "exploding": {"sigma": 3.0, "input_scale": 0.5, "hidden": 40},
}


def treated(name: str, ill: Patient) -> Patient:
    assert TREATMENTS[name].unsuited(ill) is None
    return ill.with_stack(TREATMENTS[name].apply(ill).stack)


def gain_by_autograd(one: Patient) -> float:
    """The median log10 gain at the lag from the seeds as documented, by backpropagation through PyTorch's module."""
    (net,) = one.stack.layers
    draws, batch = one.settings.draws, one.inputs.shape[1]
    seeds = torch.randn(
        draws, batch, net.output_size, dtype=torch.float64, generator=generator(one.settings.seed, "gradient")
    )
    seeds /= seeds.norm(dim=-1, keepdim=True)
    first = [
        autograd.carried_adjoints(Stack("s", ((net,),)), one.inputs, {net.name: seed})[0][net.name][-one.lag]
        for seed in seeds
    ]
    return float(median(torch.stack([each.norm(dim=-1).log10() for each in first]).mean(0)))


@pytest.mark.parametrize("name", ILL)
def test_rescaling_takes_the_gain_of_autograd_to_zero(name: str) -> None:
    ill = patient(**ILL[name])
    assert ill.gain.verdict != "healthy"
    well = treated("rescale", ill)
    assert abs(gain_by_autograd(well)) < 0.1
    assert well.gain.log10 == pytest.approx(gain_by_autograd(well), abs=1e-9)
    (old,), (new,) = ill.stack.layers, well.stack.layers
    ratio = new.weight_hh / old.weight_hh
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    assert torch.equal(new.weight_ih, old.weight_ih)


def test_every_layer_of_a_deep_stack_gets_its_own_root() -> None:
    ill = patient(sigma=0.5, layers=3)
    figures = TREATMENTS["rescale"].apply(ill).figures
    assert len(set(figures.values())) == 3
    assert treated("rescale", ill).gain.verdict == "healthy"


def test_where_no_scale_has_a_root_it_says_so() -> None:
    rank_one = torch.zeros(6, 6, dtype=torch.float64)
    rank_one[0, 1] = 1.0  # nilpotent: nothing comes through two steps, whatever the scale
    net = RecurrentLayer("r", "tanh", torch.ones(6, 2, dtype=torch.float64), rank_one)
    applied = TREATMENTS["rescale"].apply(patient(Stack("s", ((net,),))))
    assert "no scale brings its gain to 0" in applied.action


@given(seed=st.integers(0, 1000), size=st.integers(2, 7))
@settings(max_examples=30, deadline=None)
def test_the_polar_factor_is_the_nearest_orthogonal_matrix(seed: int, size: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, size, generator=stream, dtype=torch.float64)
    nearest = polar_factor(weight)
    torch.testing.assert_close(nearest @ nearest.T, torch.eye(size, dtype=torch.float64))
    skew = torch.randn(size, size, generator=stream, dtype=torch.float64)
    close = torch.linalg.matrix_exp(0.1 * (skew - skew.T)) @ nearest
    far = torch.linalg.qr(skew).Q
    for other in (close, far):
        assert (weight - nearest).norm() <= (weight - other).norm() + 1e-9


@pytest.mark.parametrize(("kind", "target"), [("vanishing", -1.5), ("exploding", 1.5)])
def test_inputs_are_scaled_until_the_gain_is_half_way_into_the_band(kind: str, target: float) -> None:
    ill = patient(**DRIVEN[kind])
    assert ill.gain.verdict == kind
    well = treated("scale-inputs", ill)
    assert gain_by_autograd(well) == pytest.approx(target, abs=0.25)
    assert torch.equal(well.stack.layers[0].weight_hh, ill.stack.layers[0].weight_hh)


def test_one_factor_on_what_drives_a_relu_net_changes_no_slope() -> None:
    assert "ReLU" in (TREATMENTS["scale-inputs"].unsuited(patient(**ILL["ReLU"])) or "")


@pytest.mark.parametrize("kind", ["lstm", "gru", "reset-first"])
def test_chrono_biases_keep_for_one_to_lag_minus_one_steps(kind: str) -> None:
    lag, hidden = 200, 400
    net = layer(kind, hidden=hidden, scale=0.5)
    ill = patient(Stack("s", ((net,),)), length=lag)
    (after,) = TREATMENTS["chrono"].apply(ill).stack.layers
    assert after.bias_ih is not None
    assert after.bias_hh is not None
    both = {gate: b + after.blocks(after.bias_hh)[gate] for gate, b in after.blocks(after.bias_ih).items()}
    keeping = "forget" if net.cell == "lstm" else "update"
    times = both[keeping].exp()
    assert times.min() >= 1
    assert times.max() <= lag - 1
    assert float(times.mean()) == pytest.approx(lag / 2, rel=0.1)  # of U(1, lag - 1)
    if net.cell == "lstm":
        torch.testing.assert_close(both["input"], -both["forget"])
    assert torch.equal(after.weight_hh, ill.stack.layers[0].weight_hh)


@pytest.mark.parametrize(
    ("law", "check"),
    [
        ("xavier", lambda w: w.abs().max() <= (6 / 48) ** 0.5 and w.std() == pytest.approx((2 / 48) ** 0.5, rel=0.1)),
        ("he", lambda w: w.std() == pytest.approx((2 / 24) ** 0.5, rel=0.1)),
        ("orthogonal", lambda w: torch.allclose(w @ w.T, torch.eye(24).double())),
        ("identity", lambda w: torch.equal(w, torch.eye(24).double())),
    ],
)
def test_initialising_anew_follows_the_law_it_is_named_for(law: str, check: object) -> None:
    ill = patient(sigma=0.5, bias_scale=1.0)
    (net,) = TREATMENTS[f"init-{law}"].apply(ill).stack.layers
    assert check(net.weight_hh)  # type: ignore[operator]
    assert net.bias_ih is not None
    assert not net.bias_ih.any()


def test_gate_blocks_are_drawn_each_by_itself() -> None:
    (net,) = TREATMENTS["init-orthogonal"].apply(patient(cell="lstm", init="pytorch")).stack.layers
    for block in net.blocks(net.weight_hh).values():
        torch.testing.assert_close(block @ block.T, torch.eye(24).double())


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_gated_cell_has_the_same_widths_and_pytorchs_bounds(cell: str) -> None:
    ill = patient(sigma=0.5, layers=2)
    stack = TREATMENTS[cell].apply(ill).stack
    for old, new in zip(ill.stack.layers, stack.layers, strict=True):
        assert (new.cell, new.name, new.input_size, new.output_size) == (cell, old.name, old.input_size, 24)
        assert len(new.gates) * 24 == len(new.weight_hh)
        assert max(float(p.abs().max()) for p in new.parameters.values()) <= 1 / math.sqrt(24)


def test_the_change_of_the_states_is_that_of_pytorchs_modules() -> None:
    ill = patient(sigma=0.5)
    well = treated("nearest-orthogonal", ill)

    def states(one: Patient) -> Tensor:
        (net,) = one.stack.layers
        return module(net)(one.inputs)[0].detach()  # type: ignore[no-any-return]

    expected = float((states(well) - states(ill)).norm() / states(ill).norm())
    assert well.change(ill) == pytest.approx(expected)
    assert ill.change(ill) == 0.0


def test_a_treated_layer_is_measured_as_its_file_would_hold_it() -> None:
    net = layer("tanh", scale=0.3, dtype=torch.float32)
    well = treated("rescale", patient(Stack("s", ((net,),))))
    weight = well.stack.layers[0].weight_hh
    assert weight.dtype == torch.float64
    assert torch.equal(weight, weight.float().double())


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_treatment_leaves_its_patient_as_it_was_and_draws_the_same_again(name: str) -> None:
    ill = patient(cell="lstm", init="pytorch") if name == "chrono" else patient(sigma=0.5, init="gaussian")
    before = [p.clone() for la in ill.stack.layers for p in la.parameters.values()]
    one, two = (TREATMENTS[name].apply(ill).stack.layers[0].parameters for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    after = [p for la in ill.stack.layers for p in la.parameters.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert ill.lag == LENGTH
