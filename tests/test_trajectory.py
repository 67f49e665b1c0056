"""A long trajectory, linearized by windows, against the same held as a whole."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from rnndiag import trajectory
from rnndiag.config.settings import Settings
from rnndiag.measures import adjoint
from rnndiag.measures.layer import measure_layer
from rnndiag.measures.stack import measure_stack
from rnndiag.trajectory import run_stack
from tests.oracles.nets import FORMS, stack

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def measured(net, inputs):
    levels = run_stack(net, inputs)
    settings = Settings(exponents="all")
    layers = [measure_layer(run, run.layer, len(inputs), settings)[0] for level in levels for run in level]
    return levels, layers, measure_stack("s", levels, layers, None, len(inputs), settings)[0]


def same(one: object, two: object, name: str) -> None:
    if hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            same(getattr(one, field.name), getattr(two, field.name), f"{name}.{field.name}")
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key, value in one.items():
            same(value, two[key], f"{name}.{key}")
    elif isinstance(one, float) or (isinstance(one, tuple) and one and isinstance(one[0], float)):
        assert two == pytest.approx(one, rel=1e-8, abs=1e-9, nan_ok=True), name
    else:
        assert one == two, name


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj", [0, 3])
def test_windows_measure_what_the_whole_does(kind, bidirectional, proj, monkeypatch: pytest.MonkeyPatch) -> None:
    net = stack(kind, 2, bidirectional=bidirectional, proj=proj if kind == "lstm" else 0)
    inputs = torch.randn(50, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    _, layers, judged = measured(net, inputs)
    monkeypatch.setattr(trajectory, "HELD_BYTES", 0)
    monkeypatch.setattr(trajectory, "WINDOW_BYTES", 3000)
    monkeypatch.setattr(adjoint, "WINDOW_BYTES", 2000)
    monkeypatch.setattr("rnndiag.cells.cell.STEPS_AT_ONCE", 7)
    levels, by_windows, judged_by_windows = measured(net, inputs)
    assert all(run.held is None and 1 < run.span < 50 for level in levels for run in level)
    for one, two in zip(layers, by_windows, strict=True):
        same(one, two, one.name)
    same(judged, judged_by_windows, "stack")


def test_an_unfinished_window_at_the_end_and_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    net = stack("lstm", 1)
    inputs = torch.randn(11, 2, 3, dtype=torch.float64)
    ((whole,),) = run_stack(net, inputs)
    monkeypatch.setattr(trajectory, "HELD_BYTES", 0)
    for size in (1, 4 * 5 * 2 * 8 * 4):
        monkeypatch.setattr(trajectory, "WINDOW_BYTES", size)
        ((run,),) = run_stack(net, inputs)
        torch.testing.assert_close(run.cell_state, whole.cell_state, **CLOSE)
        torch.testing.assert_close(run.along.state_jacobian.to_dense(), whole.along.state_jacobian.to_dense(), **CLOSE)
        torch.testing.assert_close(run.state_jacobians[10].to_dense()[:, 0], whole.state_jacobians[10].to_dense()[:, 0])
