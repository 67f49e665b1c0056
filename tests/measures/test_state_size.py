"""The size of the states, and the growth of series whose growth is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.state_size import growth, state_size
from rnndiag.measures.thinning import MAX_WHOLE_STEPS
from rnndiag.probes import Probe
from rnndiag.report import Report
from rnndiag.trajectory import run_layer
from tests.oracles.nets import layer

QUICK = Settings(exponents=1, treat=False)


def report(net: RecurrentLayer, probe: Probe) -> Report:
    return diagnose(Model(Source("here", "random"), (Stack("rnn", ((net,),)),)), probe, QUICK)


def fired(of: Report) -> bool:
    return "NUM005" in {finding.rule for finding in of.findings}


def exponent(sizes: Tensor) -> float:
    found = growth(sizes[:, None].expand(-1, 3).double(), torch.ones(len(sizes), 3))
    assert found is not None
    return found.exponent


def test_the_sizes_are_those_of_pytorchs_own_states() -> None:
    net, inputs = layer("lstm"), torch.randn(30, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    cell = nn.LSTMCell(4, 6).double()
    cell.load_state_dict(net.parameters)
    state, states = None, []
    with torch.no_grad():
        for x in inputs:
            state = cell(x, state)
            states.append(torch.cat(state, -1))
    expected = torch.stack(states)
    measured = state_size(run_layer(net, inputs))
    norms, largest = expected.norm(dim=-1), expected.abs().amax(-1)

    def middle(of: Tensor) -> list[float]:
        return [sum(sorted(row)[1:3]) / 2 for row in of.tolist()]

    assert measured.norm_per_step == pytest.approx(middle(norms))
    assert measured.largest_per_step == pytest.approx(middle(largest))
    assert measured.max == pytest.approx(float(largest.max()))


@pytest.mark.parametrize(("sizes", "expected", "off"), [
    (lambda t: t, 1.0, 1e-9),
    (lambda t: 3 * t.sqrt(), 0.5, 1e-3),
    (lambda t: t**2, 2.0, 1e-3),
    (lambda t: 0 * t + 7, 0.0, 1e-9),
    (lambda t: 1 - (-t / 20).exp(), 0.0, 0.01),  # the transient from zero is over
    (lambda t: 0 * t, 0.0, 1e-9),
])  # fmt: skip
def test_the_exponent_of_known_growth(sizes, expected: float, off: float) -> None:
    assert exponent(sizes(torch.arange(1.0, 401.0))) == pytest.approx(expected, abs=off)


def test_exponential_growth_is_faster_than_any_line_and_huge_sizes_do_not_overflow() -> None:
    assert exponent(1.05 ** torch.arange(1.0, 401.0)) > 10
    assert exponent(1e306 * torch.arange(1.0, 101.0).double()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("sizes", [torch.ones(23, 4), torch.ones(100, 1), torch.full((100, 4), math.inf)])
def test_what_cannot_be_judged_has_no_growth(sizes: Tensor) -> None:
    assert growth(sizes, torch.ones_like(sizes)) is None


@pytest.mark.parametrize(("units", "sequences"), [(1, 2), (1, 16), (32, 2), (32, 16)])
def test_random_walks_are_no_growth(units: int, sequences: int) -> None:
    """300 random walks in each unit, free and reflected at zero as those of a ReLU unit."""
    stream, alarms = torch.Generator().manual_seed(units + sequences), 0
    for _ in range(300):
        steps = torch.randn(100, sequences, units, dtype=torch.float64, generator=stream)
        walk = steps.cumsum(0)
        reflected = walk - walk.cummin(0).values.clamp(max=0)
        for size in (walk.abs().amax(-1), reflected.amax(-1)):
            found = growth(size, torch.ones_like(size))
            assert found is not None
            alarms += found.exponent_interval[0] > 0.6 and found.rising >= 0.9
    assert alarms <= 6  # of 600


def integrator(forget: float, candidate: float, units: int = 4) -> RecurrentLayer:
    """An LSTM whose forget gate is ``forget`` and whose candidate has one sign."""
    net = layer("lstm", 3, units, scale=0.0)
    assert net.bias_ih is not None
    assert net.bias_hh is not None
    net.weight_ih.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    net.bias_ih.zero_()
    net.bias_hh.zero_()
    net.bias_ih[units : 2 * units] = math.log(forget / (1 - forget))
    net.bias_ih[2 * units : 3 * units] = candidate
    return net


@pytest.mark.parametrize("length", [100, 1000, 5000])
def test_a_cell_state_that_grows_is_found_at_every_length(length: int) -> None:
    net = integrator(0.9999, 3.0)
    found = report(net, Probe(length=length, batch=4))
    (finding,) = (each for each in found.findings if each.rule == "NUM005")
    assert finding.severity == "warning"
    f, added = 0.9999, 0.5 * math.tanh(3.0)
    assert finding.evidence["end"] == pytest.approx(added * (1 - f**length) / (1 - f), rel=0.1)
    assert finding.evidence["exponent_low"] <= finding.evidence["exponent"] <= finding.evidence["exponent_high"]
    assert {each.checklist for each in finding.suggestions} == {"truncation", "saturation", "init"}
    (every,) = (each.action for each in finding.suggestions if each.checklist == "truncation")
    assert 18 <= int(every.split()[4]) <= 22  # |c| passes 10 at step 10 / 0.4975 = 20.1, but for the noise
    first, last = found.layers[0].states.norm_per_step[0], found.layers[0].states.norm_per_step[-1]
    assert last > 20 * first


@pytest.mark.parametrize(("forget", "candidate"), [(0.9, 3.0), (0.95, 3.0), (0.9999, 0.0)])
def test_a_cell_state_that_settles_or_wanders_is_left_alone(forget: float, candidate: float) -> None:
    for length in (100, 1000):
        assert not fired(report(integrator(forget, candidate), Probe(length=length, batch=8)))


def relu(weight: float, bias: float = 0.0) -> RecurrentLayer:
    weight_ih = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    eye = torch.eye(8, dtype=torch.float64)
    biases = torch.full((8,), bias).double(), torch.zeros(8).double()
    return RecurrentLayer("rnn.l0", "relu", weight_ih, eye * weight, *biases)


@pytest.mark.parametrize(
    ("weight", "bias", "length", "grows"),
    [
        (1.05, 0.0, 400, True),  # exponential
        (1.0, 1.0, 5000, True),  # linear
        (1.0, 0.0, 2000, False),  # a random walk
        (1.0, 1.0, 100, False),  # a sum over the probe, of its own size
        (0.99, 1.0, 2000, False),  # a leaky integrator that has settled
    ],
)
def test_relu_states(weight: float, bias: float, length: int, grows: bool) -> None:
    assert fired(report(relu(weight, bias), Probe(length=length, batch=8))) is grows


def test_states_that_follow_growing_inputs_do_not_grow_by_themselves() -> None:
    ramp = torch.arange(2000.0)[None, :, None] * torch.ones(4, 1, 3)
    positive = relu(0.5)
    positive.weight_ih.abs_()
    assert not fired(report(positive, Probe.from_array(ramp)))
    summing = relu(1.0)
    summing.weight_ih.abs_()
    assert fired(report(summing, Probe.from_array(ramp)))


def test_a_step_function_and_bounded_cells() -> None:
    from rnndiag import inspect

    found = inspect(lambda h, x: h + x.abs(), torch.zeros(2), torch.randn(4, 3000, 2), settings=QUICK)
    assert fired(found)
    short = report(layer("gru"), Probe(length=10, batch=4))
    assert "NUM005" not in {item.rule for item in short.not_assessed}
    short = report(layer("lstm"), Probe(length=10, batch=4))
    (item,) = (each for each in short.not_assessed if each.rule == "NUM005")
    assert "24 steps and 2 sequences" in item.reason


def test_long_arrays_are_thinned_and_overflowing_ones_too() -> None:
    found = report(relu(0.5), Probe(length=MAX_WHOLE_STEPS + 1, batch=2)).layers[0].states
    assert found is not None
    assert found.steps is not None
    assert len(found.steps) == len(found.norm_per_step) == len(found.largest_per_step) < 1500
    assert (found.steps[0], found.steps[-1]) == (1, MAX_WHOLE_STEPS + 1)
    broken = report(relu(1.5), Probe(length=MAX_WHOLE_STEPS + 1, batch=2)).layers[0]
    assert broken.states is not None
    assert len(broken.states.norm_per_step) < 1500
    assert broken.states.growth is None
    assert broken.states.norm_per_step[-1] == math.inf or math.isnan(broken.states.norm_per_step[-1])
