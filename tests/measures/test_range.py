"""Numbers near the limits of the range and beyond, compared with arithmetic of unlimited range (mpmath)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.config.settings import Settings
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.measures.layer import LayerMeasures, measure_layer
from rnndiag.measures.step_norms import step_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.trajectory import Trajectory, run_layer
from tests.oracles import exact
from tests.oracles.nets import FORMS, layer

DOUBLE = torch.float64


def noise(length: int, batch: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(length, batch, width, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def measure(net: RecurrentLayer, inputs: Tensor, *, dtype: str = "float64") -> LayerMeasures:
    chosen = Settings(dtype=dtype, exponents="all")  # type: ignore[arg-type]
    kind = getattr(torch, dtype)
    return measure_layer(run_layer(net.to(kind), inputs.to(kind)), net, len(inputs), chosen)[0]


def truth(run: Trajectory) -> list[list[exact.Matrix]]:
    assert isinstance(run.layer, RecurrentLayer)
    return exact.jacobians(run.layer, run.inputs, run.hidden, run.cell_state)


def assert_right(run: Trajectory, *, rel: float = 1e-6, steps: float = 1e-6) -> None:
    """Norms, gains, adjoint and exponents of a run against their exact values."""
    matrices = truth(run)
    length, batch, size = run.length, run.batch, run.state_jacobians.shape[0]
    _, logs = step_norms(run.state_jacobians, generator=torch.Generator().manual_seed(0))
    adjoint = layer_adjoint(run, draws=1, generator=torch.Generator().manual_seed(1))
    seeds = torch.randn(1, batch, run.layer.output_size, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    seeds /= torch.linalg.vector_norm(seeds, dim=-1, keepdim=True)
    seeds = torch.nn.functional.pad(seeds, (0, size - run.layer.output_size)).to(run.hidden).double()
    growth = frame_growth(run.state_jacobians, size, [0, length], generator=torch.Generator().manual_seed(2))[0]
    for b in range(batch):
        chain = [matrices[t][b] for t in range(length)]
        for t, matrix in enumerate(chain):
            close(float(logs[t, b]) * math.log(10), exact.log_spectral_norm(matrix), rel)
        for lag, expected in enumerate(exact.log_adjoint(chain, exact.numbers(seeds[0, b])), 1):
            close(float(adjoint.states[lag - 1, 0, b]), expected, lag * steps)
        close(float(growth[b].sum()), mp.fsum(map(exact.log_determinant, chain)), length * size * steps)


def close(found: float, expected: mp.mpf, tolerance: float) -> None:
    """Logarithms: their difference is the relative error of the numbers; beyond 1e300 rounding of the log itself."""
    if mp.isinf(expected):
        assert found == -math.inf
        return
    assert abs(found - expected) <= tolerance + 1e-13 * abs(expected), (found, expected)


def scaled(net: RecurrentLayer, power: int) -> RecurrentLayer:
    assert -1074 <= power <= 1023
    factor = torch.tensor(math.ldexp(1.0, power), dtype=DOUBLE)
    return replace(net, weight_hh=net.weight_hh * factor)


@settings(max_examples=15, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    power=st.one_of(st.integers(-1074, 1000), st.integers(-200, 200)),
    length=st.integers(1, 4),
    seed=st.integers(0, 1000),
    projected=st.booleans(),
)
def test_recurrent_weights_of_any_size(form: str, power: int, length: int, seed: int, projected: bool) -> None:
    proj = 2 if form == "lstm" and projected else 0
    net = scaled(layer(form, 2, 3, proj=proj, seed=seed), power)  # type: ignore[arg-type]
    run = run_layer(net, noise(length, 2, 2, seed))
    if run.first_nonfinite_step() is None:  # a ReLU net's own states overflow
        assert_norms(run)


def assert_norms(run: Trajectory) -> None:
    _, logs = step_norms(run.state_jacobians, generator=torch.Generator().manual_seed(0))
    matrices = truth(run)
    for t, row in enumerate(matrices):
        for b, matrix in enumerate(row):
            close(float(logs[t, b]) * math.log(10), exact.log_spectral_norm(matrix), 1e-6)


@settings(max_examples=8, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    bias=st.floats(0, 300),
    spread=st.floats(0, 2),
    length=st.integers(1, 5),
    seed=st.integers(0, 1000),
    projected=st.booleans(),
)
def test_saturation_of_any_depth(
    form: str, bias: float, spread: float, length: int, seed: int, projected: bool
) -> None:
    """Biases of any size and both signs saturate units and gates; each unit has its own bias."""
    proj = 2 if form == "lstm" and projected else 0
    net = layer(form, 2, 3, proj=proj, seed=seed)  # type: ignore[arg-type]
    assert net.bias_ih is not None
    net = replace(net, bias_ih=net.bias_ih.sign() * bias * (1 + spread * net.bias_ih.abs()))
    run = run_layer(net, noise(length, 2, 2, seed))
    # ReLU Jacobians can be singular. The determinant of a saturated LSTM is known to few digits. With biases of 15 and
    # 3 steps, log |det J| moves by up to 1.4 if each entry moves by 2^-53 of the largest entry in its row. The sum of
    # the exponents is wrong by up to 0.6 there, and can be -inf. If each entry moves by 2^-53 of itself, log |det J|
    # moves by less than 1e-6: the entries do determine it, but a product with a frame mixes the entries of a row.
    if form in ("relu", "lstm"):
        assert_norms(run)
    else:
        assert_right(run)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-800, 800), min_size=2, max_size=5), st.integers(1, 40), st.integers(-1000, 900))
@example([389.0, 714.0, -337.0], 23, 12)  # quotients of the entries of one row leave the range
@example([0.0, 181.0], 5, 2)  # a column becomes subnormal within a run of steps
@example([0.0, 0.0], 3, 58)  # the powers of two of the rows exceed 2^53
def test_units_that_do_not_feed_one_another(biases: list[float], length: int, power: int) -> None:
    """Each unit is a net of its own: its exponent is the mean of ``log |w phi'|``, however deep the others are."""
    n = len(biases)
    weights = torch.linspace(0.5, 0.9, n, dtype=DOUBLE) * math.ldexp(1.0, power)
    bias = torch.tensor(biases, dtype=DOUBLE)
    net = RecurrentLayer("r", "tanh", torch.ones(n, 1, dtype=DOUBLE), torch.diag(weights), bias, bias * 0)
    inputs = noise(length, 2, 1, n)
    run = run_layer(net, inputs)
    growth = frame_growth(run.state_jacobians, n, [0, length], generator=torch.Generator().manual_seed(0))[0]
    for b in range(2):
        steps = [row[b] for row in truth(run)]
        own = [mp.fsum(mp.log(abs(step[i][i])) for step in steps) for i in range(n)]
        # The first frame is turned by an orthogonal matrix, whose volumes are of order one.
        close(float(growth[b].sum()), mp.fsum(own), 1e-8 * length)
        top = max(own)
        assert abs(float(growth[b].max()) - top) <= 8 + 1e-12 * abs(top)


def test_the_reported_cases_of_decoupled_saturated_units() -> None:
    for biases, total in (((3.0, 10.0, 20.0, 5.0), -72.7), ((20.0, 1.0, 30.0, 9.0), -113.3)):
        b = torch.tensor(biases, dtype=DOUBLE)
        net = RecurrentLayer("r", "tanh", torch.zeros(4, 1, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE) * 0.5, b, b * 0)
        spectrum = measure(net, noise(50, 3, 1)).lyapunov
        assert spectrum is not None
        states = run_layer(net, noise(50, 3, 1)).hidden[spectrum.transient - 1 : -1, 0]
        slopes = [[mp.log(exact.sech_squared(a) / 2) for a in exact.numbers(h * 0.5 + b)] for h in states]
        own = sorted((float(mp.fsum(column) / len(slopes)) for column in zip(*slopes, strict=True)), reverse=True)
        assert spectrum.exponents == pytest.approx(own, rel=1e-9)
        assert sum(spectrum.exponents) == pytest.approx(total, abs=10)


def test_units_that_overtake_one_another_by_hundreds_of_decades() -> None:
    """The unit that leads for twenty steps is far behind at the end, and the other way round."""
    weights = torch.ones(2, dtype=DOUBLE)
    drive = torch.cat((torch.full((20, 1, 1), 4.0), torch.full((40, 1, 1), -4.0))).double()
    net = RecurrentLayer(
        "r",
        "tanh",
        torch.tensor([[1.0], [-1.0]], dtype=DOUBLE),
        torch.diag(weights),
        torch.full((2,), 4.0).double(),
        torch.zeros(2).double(),
    )
    run = run_layer(net, drive)
    growth = frame_growth(run.state_jacobians, 2, [0, 60], generator=torch.Generator().manual_seed(0))[0, 0]
    steps = [row[0] for row in truth(run)]
    own = sorted((mp.fsum(mp.log(abs(step[i][i])) for step in steps) for i in range(2)), reverse=True)
    for found, expected in zip(sorted(growth.tolist(), reverse=True), own, strict=True):
        assert abs(found - expected) < 4  # the first frame's own part


@pytest.mark.parametrize("a", [340.0, 355.0, 360.0, 372.0])
def test_the_norm_of_one_deeply_saturated_unit(a: float) -> None:
    net = RecurrentLayer(
        "r",
        "tanh",
        torch.zeros(1, 1).double(),
        torch.ones(1, 1).double(),
        torch.tensor([a]).double(),
        torch.zeros(1).double(),
    )
    measured = measure(net, torch.zeros(1, 2, 1, dtype=DOUBLE))
    expected = float(exact.sech_squared(mp.mpf(a)))
    assert measured.jacobian is not None
    for found in (measured.jacobian.norm_max, measured.jacobian.norm_median, measured.jacobian.rms_gain_median):
        assert found == pytest.approx(expected, rel=1e-9, abs=5e-324)
    assert measured.gradient is not None
    assert measured.gradient.multiplier == pytest.approx(expected, rel=1e-9, abs=1e-323)
    assert measured.verdict == "vanishing"


def test_logarithms_stay_finite_far_beyond_the_range() -> None:
    """At ``a = 1000`` a step multiplies by ``1e-868``: the norm is zero, and nothing that is a logarithm is infinite."""  # noqa: E501
    bias = torch.full((3,), 1000.0, dtype=DOUBLE)
    net = replace(layer("tanh", 2, 3), bias_ih=bias, bias_hh=bias * 0)
    measured = measure(net, noise(100, 3, 2))
    gradient, spectrum = measured.gradient, measured.lyapunov
    assert gradient is not None
    assert spectrum is not None
    assert measured.jacobian is not None
    assert measured.jacobian.norm_max == 0
    logs = (gradient.log10_gain, gradient.input_log10_gain, gradient.bound_log10_gain, gradient.rate)
    assert all(map(math.isfinite, (*logs, *gradient.log10_by_lag, *spectrum.exponents)))
    assert gradient.log10_gain <= gradient.bound_log10_gain
    assert gradient.credit == pytest.approx({"1": 1, "10": 1, "100": 1})


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bias", [-40.0, -720.0, -800.0, -5000.0])
def test_a_gru_that_keeps_nothing(reset_after: bool, bias: float) -> None:
    """With ``W_hh = 0`` the Jacobian is ``diag(z)``, and the exponents are means of ``log z``."""
    net = replace(
        layer("gru", 2, 4),
        weight_hh=torch.zeros(12, 4, dtype=DOUBLE),
        bias_hh=torch.zeros(12, dtype=DOUBLE),
        reset_after=reset_after,
    )
    assert net.bias_ih is not None
    net.bias_ih[4:8] = bias
    inputs = noise(60, 3, 2)
    measured = measure(net, inputs)
    spectrum = measured.lyapunov
    assert spectrum is not None
    driven = inputs[spectrum.transient :] @ net.weight_ih[4:8].T + bias
    logs = torch.nn.functional.logsigmoid(driven).mean((0, 1))
    assert sum(spectrum.exponents) == pytest.approx(float(logs.sum()), rel=1e-12)
    assert spectrum.exponents == pytest.approx(logs.sort(descending=True).values.tolist(), abs=0.2)  # 48 steps
    whole = torch.nn.functional.logsigmoid(inputs @ net.weight_ih[4:8].T + bias).mean((0, 1))
    assert measured.gates is not None
    assert measured.gates["update"].time_constant_max == pytest.approx(float((-1 / whole).max()))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_time_constant_of_a_gate_that_rounds_to_one(cell: str) -> None:
    net = layer(cell, 2, 3)  # type: ignore[arg-type]
    net = replace(net, weight_ih=net.weight_ih * 0, weight_hh=net.weight_hh * 0, bias_hh=net.weight_hh[:, 0] * 0)
    assert net.bias_ih is not None
    net.bias_ih[3:6] = 60.0
    gates = measure(net, noise(5, 2, 2)).gates
    assert gates is not None
    assert gates["update" if cell == "gru" else "forget"].time_constant == pytest.approx(math.exp(60))


@pytest.mark.parametrize("kind", ["tanh", "relu"])
@pytest.mark.parametrize(("dtype", "power"), [("float32", 63), ("float32", 100), ("float32", -84), ("float32", -130),
                                              ("float64", 512), ("float64", 1000), ("float64", -600), ("float64", -1074)])  # fmt: skip  # noqa: E501
def test_every_measure_follows_the_scale_of_the_weights(kind: str, dtype: str, power: int) -> None:
    """At T = 1 the Jacobian is ``diag(phi') W``, and a power of two on ``W`` is one on all that is measured."""
    whole = torch.tensor([[4.0, 1.0, 0.0], [-2.0, 3.0, 1.0], [1.0, -1.0, 2.0]], dtype=DOUBLE)
    plain = RecurrentLayer(
        "r", kind, torch.ones(3, 2, dtype=DOUBLE), whole, torch.ones(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)
    )  # type: ignore[arg-type]
    inputs = noise(1, 3, 2).abs()
    one, other = measure(plain, inputs, dtype=dtype), measure(scaled(plain, power), inputs, dtype=dtype)
    factor, rel = math.ldexp(1.0, power), 1e-5 if dtype == "float32" else 1e-9
    for measures in ("jacobian", "recurrent_weight"):
        small, large = getattr(one, measures), getattr(other, measures)
        names = {
            "jacobian": ("norm_median", "norm_max", "rms_gain_median"),
            "recurrent_weight": ("spectral_norm", "spectral_radius"),
        }[measures]
        for name in names:
            assert getattr(large, name) == pytest.approx(getattr(small, name) * factor, rel=rel, abs=5e-324), name
    assert one.recurrent_weight is not None
    assert other.recurrent_weight is not None
    for name in ("condition_number", "nonnormality", "effective_rank", "outliers", "singular_outliers"):
        assert getattr(other.recurrent_weight, name) == pytest.approx(getattr(one.recurrent_weight, name), rel=rel), (
            name
        )
    block, grown = one.recurrent_weight.blocks["h"], other.recurrent_weight.blocks["h"]
    for name in ("entry_scale", "bulk_scale", "bulk_edge"):
        assert getattr(grown, name) == pytest.approx(getattr(block, name) * factor, rel=rel, abs=5e-324), name
    assert one.gradient is not None
    assert other.gradient is not None
    shift = power * math.log10(2)
    for name in ("log10_gain", "bound_log10_gain", "rough_bound_log10_gain"):
        assert getattr(other.gradient, name) == pytest.approx(getattr(one.gradient, name) + shift, abs=1e-4), name
    assert one.lyapunov is not None
    assert other.lyapunov is not None
    moved = [value + power * math.log(2) for value in one.lyapunov.exponents]
    assert other.lyapunov.exponents == pytest.approx(moved, abs=1e-4)


def test_credit_does_not_depend_on_weights_that_are_zero() -> None:
    net = layer("lstm", 2, 3)
    assert net.bias_ih is not None
    net = replace(net, weight_hh=net.weight_hh * 0)
    plain, wide = (
        measure(net, noise(20, 3, 2)),
        measure(replace(net, weight_hh=net.weight_hh + 1e-300), noise(20, 3, 2)),
    )
    assert plain.gradient is not None
    assert wide.gradient is not None
    assert plain.gradient.credit is not None
    assert wide.gradient.credit == pytest.approx(plain.gradient.credit, rel=1e-9)


def test_a_distribution_is_recognised_at_any_scale() -> None:
    entries = torch.randn(20, 20, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    named = [measure(scaled(replace(layer("tanh", 2, 20), weight_hh=entries), power), noise(1, 1, 2)) for power in (3, 900, -900)]  # fmt: skip  # noqa: E501
    closest = [each.recurrent_weight.closest_init for each in named if each.recurrent_weight is not None]
    assert [each.name for each in closest if each is not None] == ["gaussian"] * 3
    assert len({each.p_value for each in closest if each is not None}) == 1
