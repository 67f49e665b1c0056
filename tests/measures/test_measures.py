"""Each measure where its value is known."""

from __future__ import annotations

import math

import pytest
import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config.settings import Settings
from rnndiag.measures.layer import LayerMeasures, measure_layer
from rnndiag.measures.stack import StackMeasures, measure_stack
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.trajectory import run_layer, run_stack
from tests.oracles.nets import FORMS, layer


def measure(net: RecurrentLayer, inputs: torch.Tensor, **settings: object) -> LayerMeasures:
    chosen = Settings(**settings)
    return measure_layer(run_layer(net, inputs), net, chosen.lag or len(inputs), chosen)[0]


def noise(net: RecurrentLayer, length: int = 60, batch: int = 8) -> torch.Tensor:
    return Probe(length=length, batch=batch).inputs(Stack("s", ((net,),)))


def elman(weight: torch.Tensor, kind: str = "tanh") -> RecurrentLayer:
    size = len(weight)
    zeros = torch.zeros(size, 1, dtype=torch.float64)
    return RecurrentLayer("rnn.l0", kind, zeros, weight.double())


def test_scaled_rotation_has_its_scale_as_multiplier() -> None:
    q = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    measured = measure(elman(0.9 * q), torch.zeros(50, 1, 1, dtype=torch.float64), exponents="all")
    assert measured.gradient is not None
    assert measured.lyapunov is not None
    assert measured.jacobian is not None
    assert measured.recurrent_weight is not None
    assert measured.gradient.multiplier == pytest.approx(0.9, rel=1e-12)
    assert measured.gradient.log10_gain == pytest.approx(50 * math.log10(0.9), rel=1e-12)
    assert measured.gradient.rough_bound_log10_gain == pytest.approx(measured.gradient.log10_gain, rel=1e-12)
    assert measured.gradient.bound_log10_gain == pytest.approx(measured.gradient.log10_gain, rel=1e-9)
    assert measured.gradient.contraction_guaranteed is True
    assert measured.gradient.horizon is None
    assert measured.lyapunov.exponents == pytest.approx([math.log(0.9)] * 10, rel=1e-9)
    assert measured.jacobian.norm_median == pytest.approx(0.9, rel=1e-6)
    assert measured.jacobian.rms_gain_median == pytest.approx(0.9, rel=1e-12)
    assert measured.recurrent_weight.condition_number == pytest.approx(1, rel=1e-9)
    assert measured.recurrent_weight.nonnormality == pytest.approx(0, abs=1e-6)


def test_diagonal_relu_has_the_logarithms_of_its_entries_as_exponents() -> None:
    weights = torch.tensor([1.1, 0.7, 0.2])
    net = RecurrentLayer("r", "relu", torch.ones(3, 1, dtype=torch.float64), torch.diag(weights).double())
    measured = measure(net, torch.ones(100, 2, 1, dtype=torch.float64), exponents="all")
    assert measured.lyapunov is not None
    assert measured.lyapunov.exponents == pytest.approx([math.log(w) for w in weights.tolist()], abs=1e-5)
    assert measured.lyapunov.entropy_rate == pytest.approx(math.log(1.1), abs=1e-5)


def test_top_exponent_is_the_growth_of_a_small_perturbation() -> None:
    (net,) = RandomNet(sigma=2.0, hidden=60, input_size=1, input_scale=0.1).build().stacks[0].layers
    inputs = noise(net, 400, 4)
    measured = measure(net, inputs)
    assert measured.lyapunov is not None
    transient = measured.lyapunov.transient
    hidden = run_layer(net, inputs).hidden[transient - 1]
    torch.manual_seed(0)
    apart = torch.randn_like(hidden)
    apart *= 1e-8 / apart.norm(dim=-1, keepdim=True)
    total = torch.zeros(4, dtype=torch.float64)
    one, two = hidden, hidden + apart
    for t, x in enumerate(inputs[transient:]):
        one, two = (torch.tanh(h @ net.weight_hh.T + x @ net.weight_ih.T) for h in (one, two))
        growth = (two - one).norm(dim=-1) / 1e-8
        if t >= 80:  # the perturbation has turned towards the growing direction
            total += growth.log()
        two = one + (two - one) / growth[:, None]
    direct = total / (len(inputs) - transient - 80)
    assert measured.lyapunov.exponents[0] == pytest.approx(float(direct.mean()), abs=0.02)
    assert measured.lyapunov.exponents[0] > 0


def test_autonomous_random_net_reaches_the_mean_fields_exponent() -> None:
    (net,) = RandomNet(sigma=2.0, hidden=400, input_size=1, bias_scale=None).build().stacks[0].layers
    inputs = Probe("impulse", 300, 3).inputs(Stack("s", ((net,),)))
    measured = measure(net, inputs, exponents=1).lyapunov
    assert measured is not None
    assert measured.driven is False
    assert measured.exponents[0] == pytest.approx(0.1547, abs=0.02)


def test_forget_bias_of_three_remembers_for_tens_of_steps() -> None:
    model = RandomNet("lstm", hidden=32, input_size=4, init="pytorch", forget_bias=3.0).build()
    (net,) = model.stacks[0].layers
    measured = measure(net, noise(net, 200))
    gate = measured.gates["forget"]
    assert gate.time_constant == pytest.approx(-1 / math.log(1 / (1 + math.exp(-3))), rel=0.1)
    assert measured.gradient is not None
    assert measured.gradient.horizon is None or measured.gradient.horizon > 60
    plain = RandomNet("lstm", hidden=32, input_size=4, init="pytorch").build().stacks[0].layers[0]
    forgetful = measure(plain, noise(plain, 200)).gradient
    assert forgetful is not None
    assert forgetful.horizon is not None
    assert forgetful.horizon < 20


@pytest.mark.parametrize("kind", FORMS)
def test_one_step_one_unit_one_sequence(kind: str) -> None:
    net = layer(kind, 1, 1)
    measured = measure(net, torch.ones(1, 1, 1, dtype=torch.float64))
    assert measured.verdict in ("healthy", "vanishing")
    assert measured.lyapunov is not None
    assert measured.gradient is not None
    assert len(measured.gradient.log10_by_lag) == 1


def test_permuting_the_units_changes_nothing() -> None:
    net = layer("tanh", 3, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    permuted = RecurrentLayer(
        net.name,
        "tanh",
        net.weight_ih[order],
        net.weight_hh[order][:, order],
        net.bias_ih[order],
        net.bias_hh[order],
    )
    inputs = noise(net)
    one, two = measure(net, inputs, exponents="all"), measure(permuted, inputs, exponents="all")
    assert one.recurrent_weight is not None
    assert two.recurrent_weight is not None
    assert one.lyapunov is not None
    assert two.lyapunov is not None
    assert one.jacobian is not None
    assert two.jacobian is not None
    assert two.recurrent_weight.singular_values == pytest.approx(one.recurrent_weight.singular_values)
    assert two.jacobian.norm_per_step == pytest.approx(one.jacobian.norm_per_step, rel=2e-6)
    # The frames start differently, so the later exponents agree within the transient's trace only.
    assert two.lyapunov.exponents[0] == pytest.approx(one.lyapunov.exponents[0], abs=0.05)
    assert one.saturation is not None
    assert two.saturation is not None
    assert two.saturation.rate == one.saturation.rate
    assert two.saturation.per_unit == tuple(one.saturation.per_unit[i] for i in order)


def test_saturation_counts_slopes_and_units() -> None:
    net = RecurrentLayer(
        "r",
        "tanh",
        torch.tensor([[5.0], [0.1]]).double(),
        torch.zeros(2, 2).double(),
    )
    inputs = torch.tensor([1.0, -1.0, 1.0, 0.0]).double()[:, None, None]
    measured = measure(net, inputs).saturation
    assert measured is not None
    assert measured.rate == pytest.approx(3 / 8)
    assert measured.per_step == (0.5, 0.5, 0.5, 0.0)
    assert measured.per_unit == (0.75, 0.0)
    assert measured.saturated_units == 0


def test_dead_relu_units_are_counted() -> None:
    net = RecurrentLayer("r", "relu", torch.tensor([[1.0], [-1.0]]).double(), torch.zeros(2, 2).double())
    inputs = torch.rand(9, 2, 1, dtype=torch.float64)
    measured = measure(net, inputs).saturation
    assert measured is not None
    assert measured.dead_units == 1


def test_gates_pinned_by_their_biases() -> None:
    net = layer("lstm", 2, 3, scale=0.0)
    net.weight_ih.zero_()
    assert net.bias_ih is not None
    assert net.bias_hh is not None
    net.bias_hh.zero_()
    net.bias_ih[:3] = -4.0
    net.bias_ih[3:6] = 4.0
    gates = measure(net, torch.zeros(20, 1, 2, dtype=torch.float64)).gates
    assert (gates["input"].closed, gates["forget"].open) == (1.0, 1.0)
    assert gates["forget"].time_constant == pytest.approx(-1 / math.log(1 / (1 + math.exp(-4))))


@pytest.mark.parametrize("kind", FORMS)
def test_a_weight_that_is_not_a_number_makes_the_verdict_invalid(kind: str) -> None:
    net = layer(kind)
    net.weight_hh[0, 0] = math.nan
    measured = measure(net, noise(net))
    assert measured.verdict == "invalid"
    assert measured.numerics.nonfinite_parameters == {"weight_hh": 1}
    assert measured.gradient is None


def test_overflowing_states_name_their_first_step() -> None:
    net = elman(torch.eye(2).double() * 1e200, "relu")
    net.weight_ih.fill_(1.0)
    measured = measure(net, torch.ones(6, 1, 1, dtype=torch.float64))
    assert measured.verdict == "invalid"
    assert measured.numerics.first_nonfinite_step == 3


def test_credit_of_a_forgetful_net_is_in_the_last_steps() -> None:
    (net,) = RandomNet(sigma=0.3, hidden=40, input_size=2).build().stacks[0].layers
    gradient = measure(net, noise(net, 200)).gradient
    assert gradient is not None
    assert gradient.credit["10"] > 0.999
    assert gradient.credit["1"] < gradient.credit["10"] <= gradient.credit["100"] == pytest.approx(1)
    assert gradient.credit_99_steps is not None
    assert gradient.credit_99_steps < 6
    assert gradient.underflow_lag["float32"] is not None
    assert (
        gradient.underflow_lag["float16"] < gradient.underflow_lag["float32"] < gradient.underflow_lag["bfloat16"] + 60
    )


def test_norm_above_one_need_not_explode() -> None:
    """Pascanu et al. 2013: above 1 is necessary, not sufficient."""
    (net,) = RandomNet(sigma=0.8, hidden=100, input_size=4).build().stacks[0].layers
    measured = measure(net, noise(net, 100))
    assert measured.recurrent_weight is not None
    assert measured.gradient is not None
    assert measured.recurrent_weight.spectral_norm > 1
    assert measured.gradient.contraction_guaranteed is False
    assert measured.gradient.rough_bound_log10_gain > 0
    assert measured.verdict == "vanishing"


def test_a_stack_of_one_layer_shares_its_adjoint() -> None:
    net = layer("gru")
    inputs, settings = noise(net), Settings()
    levels = run_stack(Stack("s", ((net,),)), inputs)
    measured, adjoint = measure_layer(levels[0][0], net, 60, settings)
    shared, _ = measure_stack("s", levels, [measured], adjoint, 60, settings)
    apart: StackMeasures = measure_stack("s", levels, [measured], None, 60, settings)[0]
    assert shared.gradient is not None
    assert apart.gradient is not None
    assert shared.gradient.log10_by_lag == pytest.approx(apart.gradient.log10_by_lag, abs=1e-9)
