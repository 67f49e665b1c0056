"""Recurrent layers that are not modelled are refused by their name, and what is next to them is measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.unmodelled import SIGNATURES
from rnndiag.errors import CheckpointError

KNOWN = {f"rnn.{name}": p for name, p in nn.GRU(3, 4).state_dict().items()}


@pytest.mark.parametrize(("title", "names"), SIGNATURES)
def test_each_kind_is_named(title: str, names: tuple[str, ...], save) -> None:
    tensors = {f"model.layers.{i}.mixer.{name}": torch.ones(8, 4) for i in range(2) for name in (*names, "norm.weight")}
    tensors |= {f"model.layers.0.mixer.{name}": torch.ones(8, 4) for name in ("weight_hh", "weight_ih")}
    model = load(save(tensors | KNOWN))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    (skipped,) = (each for each in model.source.skipped if each.recurrent)
    assert skipped.name == "model.layers.0.mixer"
    assert skipped.reason.startswith(f"recurrent, but {title} ({names[0]}")
    assert "like model.layers.1.mixer" in skipped.reason
    assert "--import" in skipped.reason


def test_a_model_of_nothing_else_is_refused_in_one_line(save) -> None:
    layers = {
        f"backbone.layers.{i}.mixer.{name}": torch.ones(4) for i in range(24) for name in ("A_log", "dt_proj.weight")
    }
    with pytest.raises(CheckpointError, match=r"a Mamba layer \(A_log, dt_proj.weight\).*does not model") as refused:
        load(save(layers))
    assert len(str(refused.value)) < 600


def test_no_map_is_proposed_for_a_layer_that_is_not_modelled(save) -> None:
    shapes = {"wx": (8, 64), "wh": (16, 64), "wmx": (8, 16), "wmh": (16, 16), "b": (64,)}
    with pytest.raises(CheckpointError, match="a multiplicative LSTM") as refused:
        load(save({f"rnn.{name}": torch.ones(shape) for name, shape in shapes.items()}))
    assert "--map" not in str(refused.value)


def test_a_vector_for_a_recurrent_weight_is_an_indrnn(save) -> None:
    model = load(save({"cell.weight_ih": torch.ones(4, 3), "cell.weight_hh": torch.ones(4)} | KNOWN))
    assert "an IndRNN layer (weight_hh is a vector)" in next(s.reason for s in model.source.skipped if s.recurrent)


@pytest.mark.parametrize("gates", [3, 4])
def test_a_convolution_that_feeds_gates_is_named(gates: int, save) -> None:
    model = load(save({"cell_list.0.conv.weight": torch.ones(gates * 8, 11, 3, 3)} | KNOWN))
    assert "a ConvLSTM or ConvGRU (conv.weight)" in next(s.reason for s in model.source.skipped if s.recurrent)
    plain = load(save({"features.conv.weight": torch.ones(gates * 8, 11, 3, 3)} | KNOWN))
    assert not any(each.recurrent for each in plain.source.skipped)


class QRNN(nn.Module):
    """Salesforce's layer has the parameters of a linear layer; a pickled module has its class."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 12)


def test_a_pickled_class_is_named_by_its_class(tmp_path) -> None:
    net = nn.ModuleDict({"reader": QRNN(), "rnn": nn.GRU(3, 4)})
    torch.save(net, tmp_path / "net.pt")
    model = load(tmp_path / "net.pt")
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert next(s.reason for s in model.source.skipped if s.recurrent).startswith(
        "recurrent, but a QRNN layer (its class)"
    )
