"""Each structured operator against its own dense matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.operators.structured import StepJacobian, stacked
from rnndiag.trajectory import run_layer
from tests.oracles.nets import FORMS, KINDS, Form, layer, layers

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@st.composite
def operators(draw: st.DrawFn) -> StepJacobian:
    layer = draw(layers())
    steps, batch = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    inputs = torch.randn(steps, batch, layer.input_size, dtype=torch.float64)
    along = run_layer(layer, inputs).along
    return draw(st.sampled_from([along.state_jacobian, along.input_jacobian]))


@given(operators())
@settings(deadline=None)
def test_products_and_norm_are_those_of_the_dense_matrix(op: StepJacobian) -> None:
    dense = op.to_dense()
    m, n = op.shape
    assert dense.shape == (*op.batch, m, n)
    v, u = torch.randn(*op.batch, n, dtype=torch.float64), torch.randn(*op.batch, m, dtype=torch.float64)
    torch.testing.assert_close(op.mv(v), torch.einsum("...mn,...n->...m", dense, v), **CLOSE)
    torch.testing.assert_close(op.rmv(u), torch.einsum("...mn,...m->...n", dense, u), **CLOSE)
    torch.testing.assert_close(op.frobenius_squared(), dense.square().sum((-1, -2)), **CLOSE)


@given(operators())
@settings(deadline=None)
def test_adjoint_identity_holds_with_extra_leading_axes(op: StepJacobian) -> None:
    m, n = op.shape
    v, u = torch.randn(3, *op.batch, n, dtype=torch.float64), torch.randn(3, *op.batch, m, dtype=torch.float64)
    torch.testing.assert_close((op.mv(v) * u).sum(-1), (v * op.rmv(u)).sum(-1), **CLOSE)


@given(operators())
@settings(deadline=None)
def test_indexing_and_flattening_keep_the_maps(op: StepJacobian) -> None:
    dense = op.to_dense()
    torch.testing.assert_close(op[-1].to_dense(), dense[-1])
    torch.testing.assert_close(op.flatten().to_dense(), dense.flatten(0, 1))
    mask = torch.arange(len(op)) % 2 == 0
    torch.testing.assert_close(op.flatten()[mask].to_dense(), dense.flatten(0, 1)[mask])


@pytest.mark.parametrize("kind", FORMS)
def test_memory_of_a_map_is_its_diagonals(kind: Form) -> None:
    """Nothing of a trajectory's Jacobians grows as T * B * H * H."""
    net = layer(kind, 4, 64)
    op = run_layer(net, torch.randn(20, 3, 4, dtype=torch.float64)).along.state_jacobian
    held = sum(getattr(op, name).numel() for name in op.per_map if getattr(op, name) is not None)
    assert held <= 20 * 3 * 64 * 6
    assert op.weight is net.weight_hh


def test_a_norm_taken_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    op = run_layer(layer("reset-first"), torch.randn(5, 3, 4, dtype=torch.float64)).along.state_jacobian
    monkeypatch.setattr("rnndiag.operators.reset_first.CHUNK_BYTES", 4 * 36 * 8)
    torch.testing.assert_close(op.frobenius_squared(), op.to_dense().square().sum((-1, -2)), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proj", [0, 3])
@pytest.mark.parametrize("which", ["state_jacobian", "input_jacobian"])
def test_a_stack_of_nets_maps_as_each_net_does(kind: Form, proj: int, which: str) -> None:
    nets, steps, batch, draws = 3, 4, 2, 5
    alone = []
    for seed in range(nets):
        net = layer(kind, 4, 6, proj=proj if kind == "lstm" else 0, seed=seed)
        alone.append(getattr(run_layer(net, torch.randn(steps, batch, 4, dtype=torch.float64)).along, which))
    together = stacked(alone)
    m, n = together.shape
    assert together.batch == (steps, nets, 1, batch)
    v, u = (torch.randn(nets, draws, batch, size, dtype=torch.float64) for size in (n, m))
    for t in range(steps):
        torch.testing.assert_close(
            together[t].mv(v), torch.stack([op[t].mv(v[i]) for i, op in enumerate(alone)]), **CLOSE
        )
        torch.testing.assert_close(
            together[t].rmv(u), torch.stack([op[t].rmv(u[i]) for i, op in enumerate(alone)]), **CLOSE
        )
    each = torch.stack([op.frobenius_squared() for op in alone], 1)
    torch.testing.assert_close(together.frobenius_squared()[:, :, 0], each, **CLOSE)
