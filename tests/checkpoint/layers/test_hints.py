"""The hint for ``--map``: a pasted option gives the gain of the net itself, and some options are never proposed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rnndiag
from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.hints import hint
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.config.settings import Settings
from rnndiag.errors import CheckpointError

D, H = 5, 8


def blocks(value: torch.Tensor, order: str) -> torch.Tensor:
    """The gate blocks of an LSTM in another order."""
    return torch.cat([dict(zip("ifgo", value.chunk(4), strict=True))[letter] for letter in order])


def summed(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return state["bias_ih_l0"] + state["bias_hh_l0"]


def mlx(net: nn.LSTM, prefix: str = "") -> dict[str, torch.Tensor]:
    state = net.state_dict()
    names = {"Wx": state["weight_ih_l0"], "Wh": state["weight_hh_l0"], "bias": summed(state)}
    return {prefix + name: value for name, value in names.items()}


def recurrent_batch_norm(net: nn.LSTM) -> dict[str, torch.Tensor]:
    state = net.state_dict()
    return {
        "cell_0.weight_ih": blocks(state["weight_ih_l0"], "fiog").T.contiguous(),
        "cell_0.weight_hh": blocks(state["weight_hh_l0"], "fiog").T.contiguous(),
        "cell_0.bias": blocks(summed(state), "fiog"),
        "cell_0.bn_ih.weight": torch.ones(4 * H),
    }


def weight_dropped(net: nn.LSTM) -> dict[str, torch.Tensor]:
    return {
        f"rnns.0.{name}_raw" if "weight_hh" in name else f"rnns.0.module.{name}": value
        for name, value in net.state_dict().items()
    }


def d2l_list(net: nn.RNN) -> list[torch.Tensor]:
    state = net.state_dict()
    weights = (state["weight_ih_l0"].T.contiguous(), state["weight_hh_l0"].T.contiguous(), summed(state))
    return [*weights, torch.randn(H, D), torch.randn(D)]


def modules_of_their_own(net: nn.RNN) -> dict[str, torch.Tensor]:
    state = net.state_dict()
    return {
        "rnn.input2h.weight": state["weight_ih_l0"],
        "rnn.input2h.bias": state["bias_ih_l0"],
        "rnn.h2h.weight": state["weight_hh_l0"],
        "rnn.h2h.bias": state["bias_hh_l0"],
        "fc.weight": torch.randn(3, H),
    }


COMPLETE = {
    "MLX": (nn.LSTM, mlx, ""),
    "MLX in modules": (nn.LSTM, lambda net: mlx(net, "layers.0.") | mlx(net, "layers.1."), ""),
    "weight drop": (nn.LSTM, weight_dropped, ""),
    "batch norm": (nn.LSTM, recurrent_batch_norm, ",order=fiog"),  # the order is said to be unknown
    "d2l": (nn.RNN, d2l_list, ""),
    "modules of their own": (nn.RNN, modules_of_their_own, ""),
}


def refusal(state: object, path) -> str:
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    return str(caught.value)


def pasted(text: str) -> str:
    return text.partition('--map "')[2].partition('"')[0]


@pytest.mark.parametrize("name", COMPLETE)
def test_the_hint_as_it_is_pasted_gives_the_nets_own_gain(tmp_path, name: str) -> None:
    kind, written, order = COMPLETE[name]
    torch.manual_seed(0)
    net = kind(D, H)
    state = written(net)
    torch.save(state, tmp_path / "model.pt")
    # Some of these are read without the option; the hint for their tensors is the same.
    text = hint(state) if isinstance(state, dict) else refusal(state, tmp_path / "model.pt")
    option = pasted(text) + order
    kwargs = {"length": 20, "batch": 4, "settings": Settings(treat=False, exponents=1)}
    (expected,) = rnndiag.inspect(net, **kwargs).stacks
    found = rnndiag.inspect(tmp_path / "model.pt", mapping=option, **kwargs).stacks
    assert len(found) == (2 if name == "MLX in modules" else 1)
    for stack in found:
        assert stack.gradient.log10_gain == pytest.approx(expected.gradient.log10_gain, abs=1e-6)


@pytest.mark.parametrize(("rows", "cell"), [(1, "tanh"), (3, "gru"), (4, "lstm")])
@pytest.mark.parametrize("turned", [False, True])
def test_no_cell_and_no_layout_that_the_shapes_exclude(rows: int, cell: str, turned: bool) -> None:
    tensors = {"Wh": torch.zeros(rows * H, H), "Wx": torch.zeros(rows * H, D)}
    text = hint({name: value.T if turned else value for name, value in tensors.items()})
    option = pasted(text)
    assert option.endswith(f"layout={'columns' if turned else 'rows'},cell={cell}")
    assert parse_map(option).known.cell == {"tanh": "rnn"}.get(cell, cell)
    others = {"tanh", "relu", "gru", "lstm"} - {cell} - ({"relu"} if cell == "tanh" else set())
    assert not any(f"cell={other}" in text or f"cell {other}" in text for other in others)
    assert ("the order of the gates" in text) == (rows > 1)


def test_an_ambiguous_pair_of_known_names_is_of_an_elman_net(tmp_path) -> None:
    text = refusal({"rnn.0.U": torch.eye(H), "rnn.0.W": torch.eye(H)}, tmp_path / "model.pt")
    assert "cell=tanh" in text
    assert "or layout=columns" in text
    assert "gru" not in text.partition("--map")[2]
    assert "lstm" not in text.partition("--map")[2]


def test_the_other_direction_is_never_the_input_weight() -> None:
    torch.manual_seed(0)
    net = nn.LSTM(D, H, bidirectional=True)
    text = hint(weight_dropped(net))
    option = dict(part.split("=") for part in pasted(text).split(","))
    assert option["ih"] == "rnns.0.module.weight_ih_l0"
    assert not any("reverse" in name for name in option.values())
    assert "the option leaves out" in text
    assert "rnns.0.weight_hh_l0_reverse_raw" in text
    # Where nothing but the two recurrent weights is there, there is nothing to propose.
    only = {name: value for name, value in weight_dropped(net).items() if "weight_hh" in name}
    assert hint(only) == ""


def test_what_the_mapping_leaves_out_is_named() -> None:
    tensors = {"rnn.Wh": torch.zeros(3 * H, H), "rnn.Wx": torch.zeros(3 * H, D), "rnn.b": torch.zeros(3 * H)}
    text = hint(
        tensors | {"rnn.bhn": torch.zeros(H), "rnn.norm.weight": torch.ones(H), "head.weight": torch.ones(2, H)}
    )
    assert "bias=rnn.b," in text
    assert "the option leaves out rnn.bhn, rnn.norm.weight of the same module" in text
    assert "head" not in text


def test_two_readings_are_both_told(tmp_path) -> None:
    text = refusal(d2l_list(nn.RNN(D, H)), tmp_path / "model.pt")
    assert '--map "hh=1,ih=0,bias=2,layout=columns,cell=tanh"' in text
    assert 'or --map "hh=1,ih=3,' in text


def test_what_cannot_be_told_is_said() -> None:
    gates = [value for _ in range(4) for value in (torch.zeros(D, H), torch.zeros(H, H), torch.zeros(H))]
    text = hint({str(i): value for i, value in enumerate(gates)})
    assert "names and shapes do not show which tensors these are" in text
    assert '--map "' not in text
    vectors = {f"bias_{letter}": torch.zeros(4 * H) for letter in "pqr"}
    text = hint({"Wh": torch.zeros(4 * H, H), "Wx": torch.zeros(4 * H, D)} | vectors)
    assert "rnndiag cannot tell which of bias_p, bias_q, bias_r are biases" in text
    assert "bias" not in pasted(text)


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a b", "a*b", "{gate}", "a$b", "ü\u202e", "a" * 300])
def test_a_name_that_an_option_cannot_hold_is_not_put_into_one(name: str) -> None:
    text = hint({f"{name}_hh": torch.zeros(4 * H, H), f"{name}_ih": torch.zeros(4 * H, D)})
    assert '--map "' not in text
    assert text.isprintable()


def test_other_nets_get_no_hint() -> None:
    assert hint({"a.weight": torch.zeros(H, H), "b.weight": torch.zeros(3, H), "a.bias": torch.zeros(H)}) == ""
    assert hint({"conv.weight": torch.zeros(4, 3, 3, 3)}) == ""
    assert hint({}) == ""
