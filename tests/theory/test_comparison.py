"""Theory beside measurement: along the probe, at this width, and where it does not apply."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rnndiag.api import simulate
from rnndiag.config.settings import Settings
from rnndiag.measures.weights.random_matrix import radius_quantile
from rnndiag.probes import Probe
from rnndiag.random_nets import InitName, RandomNet
from rnndiag.renderers import markdown
from rnndiag.theory.along_probe import along_probe, critical_along
from rnndiag.theory.comparison import predict
from rnndiag.theory.law import Law, law_of
from rnndiag.theory.mean_field import critical_sigma, mean_field


@pytest.mark.parametrize(("sigma", "variance"), [(0.7, 0.3), (1.2, 1.0), (3.0, 0.5)])
def test_steady_inputs_lead_to_the_fixed_point(sigma: float, variance: float) -> None:
    along = along_probe(sigma, np.full((300, 2), variance), "tanh")
    field = mean_field(sigma, variance, "tanh")
    assert along.q[-1] == pytest.approx(field.q)
    assert along.rate(200) == pytest.approx(field.rate)
    assert critical_along(np.full((300, 2), variance), "tanh", 200) == pytest.approx(
        critical_sigma(variance, "tanh"), rel=1e-6
    )


def test_a_net_at_rest_grows_by_its_gain() -> None:
    along = along_probe(1.7, np.zeros((10, 1)), "tanh")
    assert not along.q.any()
    assert along.rate(2) == pytest.approx(math.log(1.7))


@pytest.mark.parametrize("init", ["gaussian", "orthogonal", "xavier", "he", "pytorch"])
def test_the_law_has_the_variances_that_are_drawn(init: InitName) -> None:
    net = RandomNet(init=init, hidden=300, input_size=200, input_scale=0.7, layers=2, bias_scale=None)
    for level, layer in enumerate(net.build().stacks[0].layers):
        law = law_of(net, level)
        assert isinstance(law, Law)
        assert layer.bias_ih is not None
        assert layer.bias_hh is not None
        assert float(layer.weight_hh.square().sum()) == pytest.approx(300 * law.sigma**2, rel=0.03)
        assert float(layer.weight_ih.square().mean()) == pytest.approx(law.input_variance, rel=0.03)
        biases = (layer.bias_ih + layer.bias_hh).square().mean()
        assert float(biases) == pytest.approx(law.bias_variance, rel=0.3)


@pytest.mark.parametrize(
    ("net", "probe"),
    [
        (RandomNet(sigma=1.2, hidden=100), "noise"),
        (RandomNet(sigma=2.0, hidden=100), "impulse"),
        (RandomNet(sigma=0.5, hidden=100, bias_scale=0.5), "zeros"),
        (RandomNet(sigma=0.8, hidden=100), "sine"),
        (RandomNet(init="orthogonal", hidden=100), "noise"),
        (RandomNet(init="xavier", cell="relu", hidden=100), "noise"),
        (RandomNet(sigma=3.0, hidden=80, layers=3), "noise"),
    ],
)
def test_theory_agrees_with_what_is_measured(net: RandomNet, probe: str) -> None:
    report = simulate(net, probe=probe, length=150, batch=8, settings=Settings(treat=False))
    theory = report.theory
    assert theory is not None
    assert theory.applies
    assert len(theory.layers) == net.layers
    for layer in theory.layers:
        assert layer.agrees, layer
        assert layer.measured_rate is not None
        assert layer.measured_rate == pytest.approx(layer.finite_size_rate, abs=0.1)
    assert theory.rate == max(layer.rate for layer in theory.layers)
    assert markdown.render([report]).count("agrees |") == net.layers


def test_the_wrong_gain_does_not_agree() -> None:
    """The interval is narrow enough to tell nets apart."""
    inputs = Probe(length=200).inputs(RandomNet(hidden=120).build().stacks[0])
    theory = predict(RandomNet(sigma=1.0, hidden=120), inputs)
    measured = simulate(RandomNet(sigma=1.2, hidden=120), length=200, settings=Settings(treat=False)).theory
    assert measured is not None
    (low, high), rate = theory.layers[0].finite_size_interval, measured.layers[0].measured_rate
    assert rate is not None
    assert not low <= rate <= high


@pytest.mark.parametrize(("net", "why"), [(RandomNet("gru"), "gru"), (RandomNet(init="identity"), "W_hh = I")])
def test_where_theory_does_not_apply_it_says_why(net: RandomNet, why: str) -> None:
    report = simulate(net, length=10)
    assert report.theory is not None
    assert not report.theory.applies
    assert why in report.theory.reason
    assert report.theory.rate is None
    assert "Does not apply" in markdown.render([report])


def test_orthogonal_weights_have_the_mean_field_of_gain_one() -> None:
    inputs = torch.ones(10, 1, 16, dtype=torch.float64)
    one, other = (
        predict(RandomNet(init=init, hidden=50), inputs).layers[0].rate for init in ("gaussian", "orthogonal")
    )
    assert one == other


@pytest.mark.parametrize("size", [16, 64])
def test_the_radius_of_a_random_matrix_has_its_quantiles(size: int) -> None:
    draws = torch.randn(400, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    radii = torch.linalg.eigvals(draws / size**0.5).abs().amax(-1)
    for share, slack in ((0.5, 0.12), (0.95, 0.03), (0.99, 0.015)):
        assert float((radii <= radius_quantile(size, share)).double().mean()) == pytest.approx(share, abs=slack)


@pytest.mark.parametrize(("sigma", "length"), [(3.0, 700), (1e50, 10)])
def test_states_that_outgrow_the_range_leave_the_rate(sigma: float, length: int) -> None:
    """Mean field of relu grows by the same factor however large; a stack's upper layer is fed what is left."""
    net = RandomNet("relu", sigma=sigma, hidden=16, layers=2)
    theory = predict(net, torch.randn(length, 2, 16, dtype=torch.float64))
    assert theory.applies
    for layer in theory.layers:
        assert layer.rate == pytest.approx(math.log(sigma**2 / 2) / 2, rel=1e-12)


def test_relu_at_rest_has_no_slope() -> None:
    net = RandomNet("relu", sigma=1.0, hidden=16)
    theory = predict(net, torch.zeros(20, 2, 16, dtype=torch.float64))
    assert not theory.applies
    assert theory.reason == "rnn.l0 rests at zero, where relu has no slope"
    assert predict(net, torch.ones(20, 2, 16, dtype=torch.float64)).applies
