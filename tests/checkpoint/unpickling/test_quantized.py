"""Quantised modules, made by torch.ao, and quantised tensors under the names of weights."""

from __future__ import annotations

from pickle import EMPTY_DICT, MARK

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from tests.builders.modules import assert_same_run
from tests.builders.pickles import beside_layer, name, number, storage
from tests.builders.torch_files import zip_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # torch.ao.quantization and torch.jit are deprecated, their files are not
    "ignore:torch.quantize_per_tensor, torch.quantize_per_channel",
)

MODULES = {
    "lstm": lambda: nn.LSTM(3, 5, 2),
    "two-way": lambda: nn.LSTM(3, 5, 2, bidirectional=True),
    "gru": lambda: nn.GRU(3, 5, bidirectional=True),
    "square": lambda: nn.GRU(5, 5, 3),
    "lstm_cell": lambda: nn.LSTMCell(3, 5),
    "gru_cell": lambda: nn.GRUCell(3, 5),
    "rnn_cell": lambda: nn.RNNCell(3, 5, nonlinearity="relu"),
}


class Net(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn
        self.is_cell = isinstance(rnn, nn.RNNCellBase)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x[0] if self.is_cell else x)[0]


def quantised(rnn, dtype=torch.qint8):
    """The quantised module, and a plain one with what its weights stand for: as far as floats go, the same."""
    net = torch.ao.quantization.quantize_dynamic(Net(rnn), {type(rnn)}, dtype)
    return net, plain(net.rnn, rnn)


def plain(packed, rnn):
    if isinstance(rnn, nn.RNNCellBase):
        linears = [(f"_{which}", getattr(packed, f"_packed_weight_{which}")) for which in ("ih", "hh")]
    else:
        states = [each.param.__getstate__()[0] for each in packed._all_weight_values]
        ends = [f"l{i}{way}" for i in range(rnn.num_layers) for way in ("", "_reverse")[: 1 + rnn.bidirectional]]
        linears = [(f"_{which}_{end}", linear) for end, state in zip(ends, states, strict=True)
                   for which, linear in zip(("ih", "hh"), state[4], strict=True)]  # fmt: skip
    state = {}
    for end, linear in linears:
        weight, bias = linear.__getstate__()[0]
        state |= {f"weight{end}": weight.dequantize() if weight.is_quantized else weight, f"bias{end}": bias}
    rnn.load_state_dict(state)
    return rnn


@pytest.fixture
def write(save, tmp_path):
    def state_dict(net):
        return save(net.state_dict())

    def legacy(net):
        return save(net.state_dict(), legacy=True)

    def module(net):
        return save(net)

    def scripted(net):
        torch.jit.save(torch.jit.script(net), tmp_path / "scripted.pt")
        return tmp_path / "scripted.pt"

    return {write.__name__: write for write in (state_dict, legacy, module, scripted)}


@pytest.mark.parametrize("form", ["state_dict", "legacy", "module", "scripted"])
@pytest.mark.parametrize("kind", MODULES)
def test_hidden_states(write, kind, form):
    torch.manual_seed(0)
    net, rnn = quantised(MODULES[kind]())
    model = load(write[form](net), Answers(nonlinearity="relu" if "dict" in form or form == "legacy" else None))
    (stack,) = model.stacks
    assert stack.name == "rnn"
    assert_same_run(stack, rnn, tolerance=1e-6)
    assert model.notes[0].startswith("quantised weights were dequantised")
    assert stack.assumed_class == ""  # PyTorch's own class
    assert not model.source.skipped


def test_the_quantised_module_runs_nearly_alike(write):
    """Up to what it rounds of its activations."""
    torch.manual_seed(0)
    net, rnn = quantised(nn.LSTM(3, 5, 2))
    inputs = torch.randn(7, 2, 3)
    assert torch.allclose(net.rnn(inputs)[0], rnn(inputs)[0], atol=0.03)
    assert not torch.allclose(net.rnn(inputs)[0], rnn(inputs)[0], atol=1e-6)


@pytest.mark.parametrize("form", ["state_dict", "module", "scripted"])
@pytest.mark.parametrize("kind", ["two-way", "gru"])
def test_half_precision(write, kind, form):
    net, rnn = quantised(MODULES[kind](), torch.float16)
    model = load(write[form](net))
    assert_same_run(model.stacks[0], rnn)
    assert not any("dequantised" in note for note in model.notes)


@pytest.mark.parametrize("rnn", [nn.LSTM(5, 5, 2), nn.LSTM(5, 5, bidirectional=True)], ids=["levels", "directions"])
def test_levels_and_directions_that_a_state_dict_does_not_tell_apart(write, refusal, rnn):
    net, rnn = quantised(rnn)
    assert "two levels or two directions: a quantised state_dict does not tell" in refusal(write["state_dict"](net))
    for form in ("module", "scripted"):
        assert_same_run(load(write[form](net)).stacks[0], rnn, tolerance=1e-6)


def test_a_missing_part_of_a_stack(write, refusal, save):
    net, _ = quantised(nn.LSTM(3, 5, 3))
    state = net.state_dict()
    del state["rnn._all_weight_values.1.param"]
    assert "its levels do not fit together" in refusal(save(state))


def per_tensor(weight, dtype):
    return torch.quantize_per_tensor(weight, 0.02, 3, dtype)


def per_channel(weight, dtype):
    scales = torch.linspace(0.01, 0.05, len(weight), dtype=torch.float64)
    return torch.quantize_per_channel(weight, scales, torch.arange(len(weight)) % 5, 0, dtype)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32])
@pytest.mark.parametrize("scheme", [per_tensor, per_channel])
def test_quantised_tensors(reload, scheme, dtype, legacy):
    gru = nn.GRU(2, 3)
    weights = {key: scheme(value, dtype) for key, value in gru.named_parameters() if "weight" in key}
    model = reload(dict(gru.state_dict()) | weights, legacy=legacy)
    for key, weight in weights.items():
        read = model.stacks[0].layers[0].parameters[key.removesuffix("_l0")]
        torch.testing.assert_close(read, weight.dequantize(), rtol=1e-6, atol=0)


def test_zeros_between_the_integers(reload):
    """torch gives this scheme the name of the former in its files."""
    weight = torch.quantize_per_channel(torch.randn(3, 3), torch.rand(3), torch.rand(3) * 9, 0, torch.quint8)
    assert weight.qscheme() == torch.per_channel_affine_float_qparams
    model = reload(dict(nn.RNN(3, 3).state_dict()) | {"weight_hh_l0": weight})
    torch.testing.assert_close(model.stacks[0].layers[0].weight_hh, weight.dequantize(), rtol=1e-6, atol=1e-6)


def qtensor(scheme, size=(2, 1), kind="QInt8Storage"):
    def counts(values):
        return MARK + b"".join(map(number, values)) + b"t"

    reference = storage("0", 2, kind)
    args = reference, number(0), counts(size), counts((1,) * len(size)), scheme, b"\x89", EMPTY_DICT
    return name("torch._utils _rebuild_qtensor") + MARK + b"".join(args) + b"tR"


TENSOR, CHANNEL = name("torch per_tensor_affine"), name("torch per_channel_affine")
ONE, NONE = b"G" + b"\x3f\xf0" + b"\0" * 6, b"N"


@pytest.mark.parametrize(
    "scheme",
    [
        MARK + TENSOR + ONE + number(0) + b"t",
        MARK + TENSOR + ONE + number(2**2000) + b"t",
        MARK + TENSOR + NONE + number(0) + b"t",
        MARK + TENSOR + b"t",
        MARK + name("os system") + ONE + number(0) + b"t",
        MARK + CHANNEL + ONE + ONE + number(0) + b"t",
        MARK + CHANNEL + NONE + NONE + number(2**2000) + b"t",
        MARK + CHANNEL + NONE + NONE + number(-1) + b"t",
        MARK + CHANNEL + NONE + NONE + b"t",
        NONE,
        EMPTY_DICT,
    ],
)
@pytest.mark.parametrize("kind", ["QInt8Storage", "FloatStorage", "QUInt4x2Storage"])
def test_hostile_schemes(sandbox, tmp_path, scheme, kind):
    path = zip_of(tmp_path / "model.pt", beside_layer(qtensor(scheme, kind=kind)), {"0": b"\0\0\x80\x3f" * 2})
    outcome = sandbox(path)
    assert outcome.get("layers") == ["rnn"] or "read as two types" in outcome["refused"]
    assert outcome["mib"] < 100


PACKED = {
    "a number": b"K\x01",
    "an empty tuple": b")",
    "another state": MARK + b"K\x01K\x02K\x03K\x04K\x05t",
    "another class": MARK + b"K\x01X\x01\0\0\0xt",
}


@pytest.mark.parametrize("state", PACKED)
@pytest.mark.parametrize("key", ["_all_weight_values.0.param", "_packed_weight_ih", "x"])
def test_hostile_packs(sandbox, tmp_path, key, state):
    kinds = ["__torch__.torch.classes.quantized LinearPackedParamsBase", "__torch__.torch.classes.rnn CellParamsBase"]
    entries = b"".join(
        b"X" + len(f"m{i}.{key}").to_bytes(4, "little") + f"m{i}.{key}".encode() + name(kind) + b")\x81" + PACKED[state]
        + b"b" for i, kind in enumerate([*kinds, "torch ScriptObject"])
    )  # fmt: skip
    attack = b"}" + MARK + entries + b"u"
    assert sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), {"0": b"\0\0\x80\x3f" * 2}))["layers"] == ["rnn"]
