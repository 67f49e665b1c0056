"""The leak of leaky nets: from the file, from the user, and never guessed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import rnndiag
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.checkpoint.load import load
from rnndiag.errors import CheckpointError, SettingsError
from rnndiag.trajectory import run_layer
from tests.oracles.leaky import LEAKY, layer, states

MAP = "hh=net.A,ih=net.B,bias=net.c,cell={cell}"


def saved(path: Path, kind: str = "leaky_tanh", **more: np.ndarray) -> Path:
    """Names that show no role, so that ``--map`` is the only word on them."""
    net = layer(kind)
    arrays = {"net.A": net.weight_hh, "net.B": net.weight_ih, "net.c": net.bias_ih + net.bias_hh}
    np.savez(path, **{name: array.numpy() for name, array in arrays.items()}, **more)
    return path


def answers(text: str, alpha: float | None = None) -> Answers:
    return Answers(maps=(parse_map(text),), alpha=alpha)


@pytest.mark.parametrize("kind", LEAKY)
@pytest.mark.parametrize("leak", ["option", "map", "tensor", "tensor of one number per unit"])
def test_states_are_those_of_the_formula(tmp_path: Path, kind: str, leak: str) -> None:
    expected, text, alpha, more = layer(kind, alpha=0.3), MAP.format(cell=kind), None, {}
    if leak == "option":
        alpha = 0.3
    elif leak == "map":
        text += ",alpha=0.3"
    else:
        numbers = np.linspace(0.1, 1, 6) if leak.endswith("unit") else np.float64(0.3)
        expected, more, text = layer(kind, alpha=torch.tensor(numbers)), {"net.rate": numbers}, text + ",alpha=net.rate"
    model = load(saved(tmp_path / "net.npz", kind, **more), answers(text, alpha))
    (found,) = model.stacks[0].layers
    assert found.cell == kind
    inputs = torch.randn(7, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(run_layer(found, inputs).hidden, states(expected, inputs), rtol=1e-12, atol=1e-12)


def test_without_a_leak_nothing_is_measured_and_the_option_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.npz")
    with pytest.raises(CheckpointError, match=r"its leak alpha is not in the file: give the number with --alpha"):
        load(path, answers(MAP.format(cell="leaky_tanh")))


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_leak_out_of_range_is_one_clear_line_wherever_it_comes_from(tmp_path: Path, alpha: float) -> None:
    path = saved(tmp_path / "net.npz", **{"net.rate": np.array([alpha])})
    text = MAP.format(cell="leaky_tanh")
    expected = f"expected a number above 0 and at most 1, got {alpha:g}"
    for call in (
        lambda: parse_map(f"{text},alpha={alpha}"),
        lambda: rnndiag.inspect(path, alpha=alpha, mapping=text),
        lambda: rnndiag.prescribe(path, alpha=alpha, mapping=text),
    ):
        with pytest.raises(SettingsError, match=re.escape(expected)):
            call()
    with pytest.raises(CheckpointError, match=r"its leak alpha is \S+: expected a number above 0 and at most 1"):
        load(path, answers(f"{text},alpha=net.rate"))


def test_the_leak_of_the_file_counts_before_the_users(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.npz", **{"net.rate": np.array([0.7])})
    model = load(path, answers(MAP.format(cell="leaky_relu") + ",alpha=net.rate", 0.2))
    assert float(model.stacks[0].layers[0].extra["alpha"]) == 0.7
    assert any("alpha 0.2 was asked for, but the file holds the leak of" in note for note in model.notes)


@pytest.mark.parametrize("size", [2, 7])
def test_a_leak_of_another_size_does_not_fit(tmp_path: Path, size: int) -> None:
    path = saved(tmp_path / "net.npz", **{"net.rate": np.full(size, 0.5)})
    with pytest.raises(CheckpointError, match=rf"alpha: expected 1 or 6 numbers, got shape \[{size}\]"):
        load(path, answers(MAP.format(cell="leaky_relu") + ",alpha=net.rate"))


def test_alpha_belongs_to_a_leaky_cell(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="alpha is the leak of a leaky RNN: expected cell=leaky_tanh"):
        parse_map(MAP.format(cell="tanh") + ",alpha=0.5")


@pytest.mark.parametrize(("alpha", "treatment"), [(None, "lower-leak"), (1.0, "rescale"), (0.25, "rescale")])
def test_a_treated_net_is_written_with_what_changed(tmp_path: Path, alpha: float | None, treatment: str) -> None:
    more = {} if alpha else {"net.rate": np.array([0.5])}
    path, target = saved(tmp_path / "net.npz", **more), tmp_path / "new.npz"
    text = MAP.format(cell="leaky_tanh") + ("" if alpha else ",alpha=net.rate")
    rnndiag.prescribe(path, mapping=text, alpha=alpha, treatments=treatment, take=treatment, save=target, length=40)
    with np.load(path) as old, np.load(target) as new:
        changed = [name for name in old if not np.array_equal(old[name], new[name])]
    assert changed == (["net.A"] if alpha else ["net.rate"])


def test_a_leak_that_the_file_does_not_hold_is_not_written(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.npz")
    text = MAP.format(cell="leaky_tanh")
    with pytest.raises(CheckpointError, match="the change has no place in the file"):
        rnndiag.prescribe(path, mapping=text, alpha=0.5, take="lower-leak", save=tmp_path / "new.npz", length=40)


def test_config_file_and_option_take_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnndiag.cli.choices import choose
    from rnndiag.cli.options import MeasureOptions, RuleOptions

    monkeypatch.chdir(tmp_path)
    (tmp_path / "rnndiag.yaml").write_text("alpha: 0.25\n")
    assert choose(RuleOptions(), MeasureOptions()).alpha == 0.25
    assert choose(RuleOptions(), MeasureOptions(alpha=0.5)).alpha == 0.5
    (tmp_path / "rnndiag.yaml").write_text("alpha: 2\n")
    with pytest.raises(SettingsError, match=r"rnndiag\.yaml: at alpha: expected a number above 0 and at most 1, got 2"):
        choose(RuleOptions(), MeasureOptions()).alpha  # noqa: B018
