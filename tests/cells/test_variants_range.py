"""Variants whose slopes leave the range of their dtype, against arithmetic of unlimited range (mpmath)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.measures.step_norms import step_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.operators.row_scaled import RowScaled
from rnndiag.trajectory import Trajectory, run_layer
from tests.oracles import dual, exact
from tests.oracles.nets import variant
from tests.oracles.variants import VARIANTS

SMOOTH = [name for name, (plain, _, form) in VARIANTS.items() if form.gate == "sigmoid" and plain != "reset-first"]
EXACT = [name for name, (plain, _, _) in VARIANTS.items() if plain != "reset-first"]


def noise(length: int, batch: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(length, batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def deep(name: str, size: float, *, proj: int = 0, seed: int = 0) -> RecurrentLayer:
    """A layer whose preactivations are about ``size``: by its biases, and by those of its norms."""
    net = variant(name, 2, 4, proj=proj, seed=seed)
    signs = torch.randn(len(net.weight_ih), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).sign()
    changed = {"bias_ih": signs * size} if not net.form.norms else {}
    for key, value in net.extra.items():
        if key.startswith("norm_") and key.endswith("_bias") and "cell" not in key:
            changed[key] = value + signs * size
    if not any(key != "bias_ih" for key in changed):
        changed["bias_ih"] = signs * size
    return net.with_parameters(changed)


def assert_right(run: Trajectory, tolerance: float = 1e-6) -> None:
    assert isinstance(run.layer, RecurrentLayer)
    matrices = dual.jacobians(run.layer, run.inputs, run.hidden, run.cell_state)
    generator = torch.Generator().manual_seed(0)
    _, logs = step_norms(run.state_jacobians, generator=generator)
    width, size = run.layer.output_size, run.layer.state_size
    adjoint = layer_adjoint(run, draws=1, generator=torch.Generator().manual_seed(1))
    seeds = torch.randn(1, run.batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seeds = torch.nn.functional.pad(seeds / seeds.norm(dim=-1, keepdim=True), (0, size - width))
    for b in range(run.batch):
        chain = [row[b] for row in matrices]
        for t, matrix in enumerate(chain):
            close(float(logs[t, b]) * math.log(10), exact.log_spectral_norm(matrix), tolerance)
        for lag, expected in enumerate(exact.log_adjoint(chain, exact.numbers(seeds[0, b])), 1):
            close(float(adjoint.states[lag - 1, 0, b]), expected, lag * tolerance)


def close(found: float, expected: float, tolerance: float) -> None:
    if math.isinf(expected):
        assert found == -math.inf
    else:
        assert abs(found - expected) <= tolerance + 1e-13 * abs(expected), (found, float(expected))


@pytest.mark.parametrize("name", EXACT)
def test_the_dual_numbers_are_autograds(name: str) -> None:
    """The oracle itself, where both work."""
    from tests.oracles import autograd

    net, inputs = variant(name, 2, 4), noise(3, 1, 2)
    run = run_layer(net, inputs)
    matrices = dual.jacobians(net, inputs, run.hidden, run.cell_state)
    found = torch.tensor([[[[float(e) for e in row] for row in m] for m in step] for step in matrices]).double()
    torch.testing.assert_close(found, next(iter(autograd.jacobians(net, inputs))), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("size", [40.0, 900.0])
def test_saturation_of_any_depth(name: str, size: float) -> None:
    if "relu" in name:
        size = min(size, 600.0)  # a cell state that underflows to 0 has a slope of 0
    run = run_layer(deep(name, size, proj=2 if VARIANTS[name][0] == "lstm" and size > 40 else 0), noise(3, 1, 2))
    assert_right(run)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(EXACT), st.floats(0, 400), st.integers(1, 2), st.integers(0, 1000), st.integers(-300, 300))
@example("input norm lstm", 2.0, 3, 78, 12)  # a row of dc is lost next to the others, and its row of dh is not
def test_saturated_cells_with_weights_of_any_size(name: str, size: float, length: int, seed: int, power: int) -> None:
    net = deep(name, size, seed=seed)
    if not net.form.norms:
        power //= 10
    run = run_layer(replace(net, weight_hh=net.weight_hh * 2.0**power), noise(length, 1, 2, seed))
    if run.first_nonfinite_step() is None:
        assert_right(run)


@pytest.mark.parametrize("name", SMOOTH)
def test_credit_beyond_the_range(name: str) -> None:
    """Contributions to ``dL/dW_hh`` of a net whose gradient is about ``exp(-1500)``, relative to each other."""
    net = deep(name, 900.0)
    run = run_layer(net, noise(4, 1, 2))
    adjoint = layer_adjoint(run, draws=1, generator=torch.Generator().manual_seed(1))
    plain = run_layer(deep(name, 20.0), noise(4, 1, 2))
    wide = replace(plain, held=None)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lstm", "gru"):
            patch.setattr(f"rnndiag.cells.{module}.beyond_plain_numbers", lambda *a, **k: True)
        same = layer_adjoint(
            replace(wide, held=run_layer(plain.layer, plain.inputs).held),
            draws=1,
            generator=torch.Generator().manual_seed(1),
        )
    one = layer_adjoint(plain, draws=1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(same.weights, one.weights, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(same.inputs, one.inputs, rtol=1e-8, atol=1e-8)
    assert adjoint.weights is not None
    assert not adjoint.weights.isnan().any()


@pytest.mark.parametrize("name", SMOOTH)
def test_row_exponents_change_no_measure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = variant(name, 3, 5), noise(8, 2, 3)
    plain = run_layer(net, inputs)
    for module in ("lstm", "gru"):
        monkeypatch.setattr(f"rnndiag.cells.{module}.beyond_plain_numbers", lambda *a, **k: True)
    wide = run_layer(net, inputs)
    assert isinstance(wide.along.state_jacobian, RowScaled)
    for one, two in (
        (plain.along.state_jacobian, wide.along.state_jacobian),
        (plain.along.input_jacobian, wide.along.input_jacobian),
    ):
        torch.testing.assert_close(two.to_dense(), one.to_dense(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(two.frobenius_squared(), one.frobenius_squared(), rtol=1e-10, atol=1e-12)
    size = net.state_size
    growth = [
        frame_growth(run.state_jacobians, size, [0, 8], generator=torch.Generator().manual_seed(2))[0].sum(-1)
        for run in (plain, wide)
    ]
    regular = growth[0].isfinite()
    torch.testing.assert_close(growth[1][regular], growth[0][regular], rtol=1e-6, atol=1e-6)
