"""Recurrent parameters under other names than PyTorch's, and the mapping that settles what names cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.errors import CheckpointError, SettingsError

D, H = 3, 5
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def cell(kind: str, inputs: int = D) -> nn.RNNCellBase:
    torch.manual_seed(0)
    return CELLS[kind](inputs, H)


def assert_same(stack, module: nn.RNNCellBase) -> None:
    (layer,) = stack.layers
    for name, parameter in module.named_parameters():
        assert torch.equal(layer.parameters[name], parameter.detach()), name


SPELLINGS = {
    "enc_w_hh": ("enc_w_ih", "enc_b_ih", "enc_b_hh", "enc"),
    "W_hh": ("W_xh", "b_xh", "b_hh", ""),
    "net.Whh": ("net.Wih", "net.bih", "net.bhh", "net"),
    "w_hh_dec": ("w_ih_dec", "b_ih_dec", "b_hh_dec", "dec"),
    "cell.h2h.weight": ("cell.i2h.weight", "cell.i2h.bias", "cell.h2h.bias", "cell"),
    "rnn/recurrent_weight": ("rnn/input_weight", "rnn/input_bias", "rnn/recurrent_bias", "rnn"),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("turned", [False, True])
def test_common_spellings(reload, kind, spelling, turned):
    module, (ih, bias_ih, bias_hh, path) = cell(kind), SPELLINGS[spelling]
    names = {spelling: module.weight_hh, ih: module.weight_ih, bias_ih: module.bias_ih, bias_hh: module.bias_hh}
    model = reload(
        {name: value.detach().T if turned and value.ndim == 2 else value.detach() for name, value in names.items()}
    )
    (stack,) = model.stacks
    assert stack.name == (path or {"rnn": "rnn"}.get(kind, kind))
    assert_same(stack, module)
    assert not model.source.skipped
    assert any("gate order" in note for note in model.notes) == (kind != "rnn")


def test_levels_and_directions_are_put_together(reload):
    module = nn.LSTM(D, H, num_layers=2, bidirectional=True)
    model = reload({f"enc_{name}": value for name, value in module.state_dict().items()})
    (stack,) = model.stacks
    assert [layer.name for layer in stack.layers] == ["enc.l0", "enc.l0.reverse", "enc.l1", "enc.l1.reverse"]
    assert torch.equal(stack.levels[1][1].weight_hh, module.weight_hh_l1_reverse)


def test_keras_names_are_read_in_keras_order(reload):
    module = cell("gru")

    def reordered(value):
        r, z, n = value.detach().chunk(3)
        return torch.cat((z, r, n))

    state = {
        "gru.kernel": reordered(module.weight_ih).T.contiguous(),
        "gru.recurrent_kernel": reordered(module.weight_hh).T.contiguous(),
        "gru.bias": torch.stack((reordered(module.bias_ih), reordered(module.bias_hh))),
    }
    model = reload(state)
    assert_same(model.stacks[0], module)
    assert model.stacks[0].layers[0].reset_after
    assert any("Keras's gate order z, r, h was taken for gru" in note for note in model.notes)
    single = reload(state | {"gru.bias": state["gru.bias"][0]})
    assert not single.stacks[0].layers[0].reset_after


def test_square_letters_are_not_guessed(reload):
    model = reload({"rnn.0.U": torch.eye(H), "rnn.0.W": torch.eye(H), "ok": nn.RNN(1, 2).state_dict()})
    assert [stack.name for stack in model.stacks] == ["ok"]
    (reason,) = (each.reason for each in model.source.skipped)
    assert "may be used as W h or as h W" in reason
    assert '--map "hh=rnn.0.U,ih=rnn.0.W,layout=rows,cell=tanh"' in reason


def test_the_mapping_in_that_error_works(save):
    recurrent, feeding = torch.randn(H, H), torch.randn(H, H)
    path = save({"rnn.0.U": recurrent, "rnn.0.W": feeding})
    with pytest.raises(CheckpointError) as caught:
        load(path)
    text = str(caught.value).partition('--map "')[2].partition('"')[0]
    (stack,) = load(path, Answers(maps=(parse_map(text),))).stacks
    assert stack.name == "rnn.0"
    assert stack.layers[0].cell == "tanh"
    assert torch.equal(stack.layers[0].weight_hh, recurrent)
    (other,) = load(path, Answers(maps=(parse_map(text.replace("rows", "columns")),))).stacks
    assert torch.equal(other.layers[0].weight_hh, recurrent.T)


def test_a_mapping_settles_names_and_order(save):
    module = cell("lstm")
    i, f, g, o = (block.detach() for block in module.weight_hh.chunk(4))
    i2, f2, g2, o2 = (block.detach() for block in module.weight_ih.chunk(4))
    state = {}
    for name in ("left", "right"):
        state[f"{name}.alpha"] = torch.cat((i, o, f, g))
        state[f"{name}.beta"] = torch.cat((i2, o2, f2, g2))
    state["right.alpha"] = state["right.alpha"] * 2
    model = load(save(state), Answers(maps=(parse_map("hh=*.alpha,ih=*.beta,cell=lstm,order=iofc"),)))
    assert [stack.name for stack in model.stacks] == ["left", "right"]
    assert torch.equal(model.stacks[0].layers[0].weight_hh, module.weight_hh)
    assert torch.equal(model.stacks[0].layers[0].weight_ih, module.weight_ih)


@pytest.mark.parametrize("reset", ["before", "after"])
def test_a_mapping_tells_where_the_reset_gate_is(save, reset):
    module = cell("gru")
    path = save({"a": module.weight_hh.detach(), "b": module.weight_ih.detach(), "c": module.bias_ih.detach()})
    (stack,) = load(path, Answers(maps=(parse_map(f"hh=a,ih=b,bias=c,cell=gru,reset={reset}"),))).stacks
    assert stack.layers[0].reset_after == (reset == "after")
    assert torch.equal(stack.layers[0].bias_hh, torch.zeros(3 * H))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'nothing' is not understood"),
        ("hh=a", "ih= is missing"),
        ("hh=a,ih=b,cell=rnn", "gru, lstm, got 'rnn'"),
        ("hh=a,ih=b,hh=c", "'hh=c' is not understood"),
        ("hh=*.a,ih=b", "as many *"),
        ("hh=a,ih=b,order=zrh", "order: expected cell=gru with the letters rzn"),
        ("hh=a,ih=b,cell=lstm,order=iff", "got 'iff'"),
        ("hh=a,ih=b,cell=lstm,reset=before", "expected cell=gru"),
        ("hh=a,ih=b,layout=up", "layout: expected rows, columns"),
    ],
)
def test_a_mapping_that_is_not_understood(text, words):
    with pytest.raises(SettingsError) as caught:
        parse_map(text)
    assert words in str(caught.value)
    assert str(caught.value).startswith("--map ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hh=no.such,ih=rnn.beta", "no two tensors answer to hh and ih"),
        ("hh=rnn.beta,ih=rnn.alpha", "do not fit each other"),
        ("hh=rnn.alpha,ih=rnn.beta,cell=gru", "as those of a gru"),
    ],
)
def test_a_mapping_that_does_not_fit_the_file(save, text, words):
    path = save({"rnn.alpha": torch.zeros(H, H), "rnn.beta": torch.zeros(H, D)})
    with pytest.raises(CheckpointError) as caught:
        load(path, Answers(maps=(parse_map(text),)))
    assert words in str(caught.value)
    assert "rnn.alpha" in str(caught.value)


def test_a_recurrent_weight_alone_is_no_layer(reload):
    model = reload({"reservoir.W_hh": torch.zeros(H, H), "ok": nn.RNN(1, 2).state_dict()})
    assert [stack.name for stack in model.stacks] == ["ok"]


def test_the_error_shows_a_mapping_to_try(save):
    recurrent, feeding = torch.randn(4 * H, H), torch.randn(4 * H, D)
    path = save({"cell.alpha": recurrent, "cell.beta": feeding, "out.weight": torch.zeros(2, H)})
    with pytest.raises(CheckpointError) as caught:
        load(path)
    text = str(caught.value).partition('--map "')[2].partition('"')[0]
    assert text.startswith("hh=cell.alpha,ih=cell.beta,")
    (stack,) = load(path, Answers(maps=(parse_map(text.partition(",layout")[0]),))).stacks
    assert torch.equal(stack.layers[0].weight_hh, recurrent)


class TestGatesInTensorsOfTheirOwn:
    """Each block of PyTorch's stacked parameters saved by itself, under the letters and words that people use."""

    WAYS = (
        (nn.LSTM, dict(zip("ifco", (0, 1, 2, 3), strict=True)), "W_{}", "U_{}", "b_{}"),
        (nn.LSTM, {"forget": 1, "output": 3, "input": 0, "cell": 2}, "cell.w_ih_{}", "cell.w_hh_{}", "cell.bias_{}"),
        (nn.GRU, {"z": 1, "r": 0, "h": 2}, "enc.w_xh_{}", "enc.w_hh_{}", "enc.b_h_{}"),
        (nn.GRU, {"update": 1, "reset": 0, "candidate": 2}, "kernel_{}", "recurrent_kernel_{}", "bias_{}"),
    )

    def blocks(self, module, gates, ih, hh, bias, *, columns):
        state = module.state_dict()
        state["bias_ih_l0"] += state.pop("bias_hh_l0")
        for name, part in (("weight_ih_l0", ih), ("weight_hh_l0", hh), ("bias_ih_l0", bias)):
            pieces = state.pop(name).chunk(len(gates))
            for gate, at in gates.items():
                state[part.format(gate)] = pieces[at].T if columns and pieces[at].ndim == 2 else pieces[at]
        return state

    @pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
    @pytest.mark.parametrize(("kind", "gates", "ih", "hh", "bias"), WAYS)
    def test_states(self, save, kind, gates, ih, hh, bias, columns):
        module = kind(3, 5)
        nn.init.zeros_(module.bias_hh_l0)  # of a GRU's n inside the product with r
        expected = module.bias_ih_l0.detach().clone(), module.weight_hh_l0.detach().clone()
        model = load(save(self.blocks(module, gates, ih, hh, bias, columns=columns)))
        (layer,) = model.stacks[0].layers
        assert torch.equal(layer.bias_ih, expected[0])
        assert torch.equal(layer.weight_hh, expected[1])
        assert any("put together from the tensors of its gates" in note for note in model.notes)

    def test_square_blocks_under_single_letters_ask_for_the_layout(self, save):
        module = nn.LSTM(5, 5)
        expected = module.weight_ih_l0.detach().clone()
        path = save(self.blocks(module, *self.WAYS[0][1:], columns=False))
        with pytest.raises(CheckpointError) as caught:
            load(path)
        text = str(caught.value).partition('--map "')[2].partition('"')[0]
        assert text == "ih=W_{gate},hh=U_{gate},bias=b_{gate},cell=lstm,order=ifco,layout=rows"
        (layer,) = load(path, Answers(maps=(parse_map(text),))).stacks[0].layers
        assert torch.equal(layer.weight_ih, expected)

    def test_a_mapping_by_gate(self, save):
        module = nn.GRU(3, 5)
        expected = module.weight_hh_l0.detach().clone()
        state = self.blocks(module, {"a": 1, "b": 0, "c": 2}, "x{}", "y{}", "d{}", columns=False)
        path = save(state)
        with pytest.raises(SettingsError, match="order: expected"):
            parse_map("hh=y{gate},ih=x{gate},cell=gru,order=abc")
        state = {name.translate(str.maketrans("abc", "zrh")): value for name, value in state.items()}
        path = save(state)
        text = "hh=y{gate},ih=x{gate},bias=d{gate},cell=gru,order=zrh"
        (layer,) = load(path, Answers(maps=(parse_map(text),))).stacks[0].layers
        assert torch.equal(layer.weight_hh, expected)
        del state["yz"]
        with pytest.raises(CheckpointError, match="hh: expected a tensor for each of the gates zrh"):
            load(save(state), Answers(maps=(parse_map(text),)))


@pytest.mark.parametrize("form", ["{gate}", "a{gate}b{gate}"])
def test_a_gate_belongs_once_into_every_pattern(form):
    with pytest.raises(SettingsError, match="belongs once into every pattern"):
        parse_map(f"hh={form}U,ih=W,cell=lstm")


def test_a_file_that_holds_one_layer_and_nothing_else(tmp_path):
    """The second bias is made up, and takes more than the file has."""
    path = tmp_path / "model.npz"
    np.savez(path, W_hh=np.eye(2), W_xh=np.ones((2, 1)), b_h=np.ones(2))
    assert load(path).stacks


@pytest.mark.parametrize("text", ["x" * 5000, "hh=a,ih=b,order=" + "\xff" * 5000, "hh=a,ih=b,cell=" + "\0" * 5000])
def test_an_error_repeats_no_more_than_helps(text):
    with pytest.raises(SettingsError) as caught:
        parse_map(text)
    assert len(str(caught.value)) < 2500
