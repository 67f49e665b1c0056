"""Dead units, compared with a direct computation by PyTorch's own modules, one unit at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings, Thresholds
from rnndiag.diagnose import diagnose
from rnndiag.measures.saturation import saturation
from rnndiag.probes import Probe
from rnndiag.trajectory import run_layer
from tests.oracles.nets import layer

MODULES = {"tanh": nn.RNN, "relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def dead(net: RecurrentLayer, inputs: Tensor) -> int:
    return saturation(run_layer(net, inputs), Thresholds()).dead_units


def noise(length: int = 50, batch: int = 4, width: int = 3) -> Tensor:
    return torch.randn(length, batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def constant_units(net: RecurrentLayer, inputs: Tensor) -> int:
    """Units of PyTorch's own module whose values are all the same in float32 (``c`` of an LSTM), counted one by one."""
    options = {"nonlinearity": net.cell} if net.cell in ("tanh", "relu") else {}
    module = MODULES[net.cell](net.input_size, net.hidden_size, **options).double()
    module.load_state_dict({f"{name}_l0": p for name, p in net.parameters.items()})
    states, state = [], None
    with torch.no_grad():
        for x in inputs:
            output, state = module(x[None], state)
            states.append(state[1][0] if net.cell == "lstm" else output[0])
    values = torch.stack(states).flatten(0, 1).T.tolist()
    return sum(max(unit) - min(unit) <= 2**-23 * max(map(abs, unit)) for unit in values)


@pytest.mark.parametrize("kind", list(MODULES))
def test_units_of_every_size_are_judged_by_themselves(kind: str) -> None:
    """Units whose weights are 1e-20 of the others' respond like them; units without weights do not."""
    net = layer(kind, 3, 9, scale=0.3)
    assert net.bias_ih is not None
    assert net.bias_hh is not None
    for block in range(len(net.gates)):
        small, still = slice(9 * block, 9 * block + 3), slice(9 * block + 3, 9 * block + 5)
        for parameter in (net.weight_ih, net.weight_hh, net.bias_ih, net.bias_hh):
            parameter[small] *= 1e-20 if kind in ("tanh", "relu") else 1.0
            parameter[still] = 0.0
    found = dead(net, noise())
    assert found == constant_units(net, noise())
    assert found >= 2


def test_a_relu_unit_is_dead_just_where_its_preactivation_is_never_above_zero() -> None:
    net = layer("relu", 3, 40, scale=1.0)
    assert net.bias_ih is not None
    net.bias_ih[:] = net.bias_ih - torch.linspace(0, 6, 40, dtype=torch.float64)
    inputs, h, above = noise(), torch.zeros(4, 40, dtype=torch.float64), torch.zeros(40, dtype=torch.bool)
    assert net.bias_hh is not None
    for x in inputs:
        a = x @ net.weight_ih.T + h @ net.weight_hh.T + net.bias_ih + net.bias_hh
        above |= (a > 0).any(0)
        h = a.relu()
    assert 0 < int((~above).sum()) < 40
    assert dead(net, inputs) == int((~above).sum())


def test_a_relu_reservoir_that_explodes_has_no_dead_units() -> None:
    """All its units respond in the first steps; later some are zero and the others are 10^12 times as large."""
    stream = torch.Generator().manual_seed(0)
    weight = torch.randn(100, 100, dtype=torch.float64, generator=stream)
    weight *= 2.0 / float(torch.linalg.eigvals(weight).abs().max())
    net = RecurrentLayer("rnn.l0", "relu", torch.randn(100, 3, dtype=torch.float64, generator=stream), weight)
    model = Model(Source("here", "random"), (Stack("rnn", ((net,),)),))
    found = diagnose(model, Probe(length=100, batch=16), Settings(exponents=1, treat=False))
    states = run_layer(net, Probe(length=100, batch=16).inputs(model.stacks[0])).hidden
    assert bool((states[:5] > 0).flatten(0, 1).any(0).all())
    moved = states.flatten(0, 1).amax(0)
    assert int((moved <= 1e-9 * moved.max()).sum()) > 0  # tiny compared with the largest unit
    assert found.layers[0].saturation is not None
    assert found.layers[0].saturation.dead_units == 0
    assert "SAT003" not in {finding.rule for finding in found.findings}


def test_the_cause_speaks_of_biases_only_where_there_are_any() -> None:
    for bias in (True, False):
        net = layer("relu", 3, 12, bias=bias)
        if net.bias_ih is not None:
            net.bias_ih[:6] = -50.0
        else:
            net.weight_ih[:6], net.weight_hh[:6] = 0.0, -1.0
        model = Model(Source("here", "random"), (Stack("rnn", ((net,),)),))
        found = diagnose(model, Probe(length=30, batch=4), Settings(exponents=1, treat=False))
        (finding,) = (each for each in found.findings if each.rule == "SAT003")
        assert ("biases" in finding.cause) is bias
        assert any("biases" in each.action for each in finding.suggestions) is bias
