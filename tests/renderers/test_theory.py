"""What the terminal says of theory and of weights that still look freshly drawn."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from rnndiag.api import inspect, simulate
from rnndiag.random_nets import RandomNet
from rnndiag.renderers import markdown, table
from rnndiag.report import Report


def printed(report: Report, width: int, *, verbose: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table.render([report], verbose=verbose))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_theory_stands_beside_measurement(width: int) -> None:
    report = simulate(RandomNet(sigma=1.2, hidden=32, layers=2), length=40, batch=6)
    assert report.theory is not None
    shown = printed(report, width)
    for layer in report.theory.layers:
        assert f"{layer.rate:.4f}" in shown
        assert f"{layer.measured_rate:.4f}" in shown
        assert f"{layer.rate:.4f}" in markdown.render([report])
    assert "edge of chaos" in shown


def test_a_net_at_rest_is_told_what_moves_it() -> None:
    shown = printed(simulate(RandomNet(sigma=2.0, hidden=8), probe="zeros", length=10), 80)
    assert "--probe impulse" in " ".join(shown.split())


def test_a_fresh_module_is_seen_and_a_changed_one_is_not() -> None:
    torch.manual_seed(0)
    module = nn.RNN(3, 32)
    assert "still looks like PyTorch's default" in printed(inspect(module, length=10), 100)
    with torch.no_grad():
        module.weight_hh_l0 += 0.1 * torch.ones(32, 32)
    changed = inspect(module, length=10)
    assert "still looks" not in printed(changed, 100)
    assert "fits no known initialisation" in printed(changed, 100, verbose=True)


def test_few_units_are_not_commented() -> None:
    assert "looks like" not in printed(inspect(nn.RNN(3, 4), length=10), 100)
