"""Operators with norms: bounds, pieces, cancellation and memory; ``tests/cells/test_variants.py`` has products."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from rnndiag.operators.normed import NormedJacobian
from rnndiag.trajectory import run_layer
from tests.oracles import autograd
from tests.oracles.nets import variant

NAMES = ("fastrnns lstm", "output norm lstm", "icefall lstm", "cell norm lstm", "haste gru", "per-gate norm gru")


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def operator(name: str, steps: int = 5, hidden: int = 6, **options: object) -> NormedJacobian:
    net = variant(name, 4, hidden, **options)  # type: ignore[arg-type]
    found = run_layer(net, noise(steps, 3, 4)).along.state_jacobian
    assert isinstance(found, NormedJacobian)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_jacobians_grows_as_steps_times_units_squared(name: str) -> None:
    op = operator(name, 20, 64)
    held = [getattr(op, field.name) for field in fields(op) if isinstance(getattr(op, field.name), Tensor)]
    assert sum(each.numel() for each in held if each.ndim > 2) <= 20 * 3 * 64 * 13
    assert sum(each.numel() for each in held if each.ndim == 2) <= 4 * 64 * 64


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("proj", [0, 2])
def test_a_norm_in_pieces_is_the_same(name: str, proj: int, monkeypatch: pytest.MonkeyPatch) -> None:
    op = operator(name, proj=proj if "lstm" in name else 0)
    monkeypatch.setattr("rnndiag.operators.normed.CHUNK_BYTES", 4000)
    dense = op.to_dense().square().sum((-1, -2))
    torch.testing.assert_close(op.frobenius_squared(), dense, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", ["icefall lstm", "per-gate norm gru"])
def test_a_norm_over_two_entries_removes_almost_everything(name: str) -> None:
    """What is left of ``W`` is ``eps / var`` of it: the difference of large terms would have no digits."""
    net = variant(name, 4, 2, scale=40.0)
    inputs = noise(6, 3, 4)
    op = run_layer(net, inputs).along.state_jacobian
    exact = autograd.jacobians(net, inputs)
    dense = next(iter(exact)).square().sum((-1, -2))
    torch.testing.assert_close(op.frobenius_squared(), dense, rtol=1e-6, atol=0)
    torch.testing.assert_close(op.frobenius_squared(), op.to_dense().square().sum((-1, -2)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_absolute_values_bound_every_product(name: str) -> None:
    op = operator(name)
    bound = op.absolute.mv(torch.ones(5, 3, op.shape[1], dtype=torch.float64))
    assert bool((op.to_dense().abs().sum(-1) <= bound * (1 + 1e-12)).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("proj", [0, 2])
def test_rows_are_scaled_as_of_the_dense_matrix(name: str, proj: int) -> None:
    op = operator(name, proj=proj if "lstm" in name else 0)
    exponent = noise(5, 3, op.shape[0]).mul(3).round()
    width = op.shape[0] - 6
    if proj and width > 0:
        exponent[..., :width] = exponent[..., :1]  # the rows behind one projection share an exponent
    dense = op.to_dense() * 2.0 ** exponent[..., None]
    torch.testing.assert_close(op.with_rows_times(exponent).to_dense(), dense, rtol=1e-12, atol=1e-12)
