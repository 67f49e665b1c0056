"""safetensors files, written by the library of that name."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.probe_file import read_array
from tests.builders.modules import MODULES, Net, assert_same_run


@pytest.fixture
def write(tmp_path):
    def to_file(state, name="model.safetensors", **metadata):
        save_file(state, tmp_path / name, metadata=metadata or None)
        return tmp_path / name

    return to_file


@pytest.mark.parametrize("kind", MODULES)
def test_hidden_states(write, kind):
    net = Net(MODULES[kind]())
    model = load(write(net.state_dict()), Answers(nonlinearity="relu" if kind == "relu" else None))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert_same_run(model.stacks[0], net.rnn)
    assert model.source.format == "safetensors"
    assert {s.name: s.reason for s in model.source.skipped} == {
        "norm": "not recurrent: bias [3], num_batches_tracked [], running_mean [3], running_var [3] and 1 more",
        "head": "not recurrent: bias [2], weight [2, 5]",
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_file_s_precision_is_kept(write, dtype):
    gru = nn.GRU(2, 4).to(dtype)
    (stack,) = load(write(gru.state_dict(), "no_suffix")).stacks
    assert stack.layers[0].weight_hh.dtype == dtype
    assert torch.equal(stack.layers[0].weight_hh, gru.weight_hh_l0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_other_numbers_are_no_weights(write, dtype):
    state = {f"ok.{k}": v for k, v in nn.GRU(2, 3).state_dict().items()}
    state |= {f"rnn.{k}": v.to(dtype) for k, v in nn.GRU(2, 3).state_dict().items()}
    model = load(write(state))
    assert [stack.name for stack in model.stacks] == ["ok"]
    assert model.source.skipped[0].reason.endswith(f"expected float16, bfloat16, float32 or float64, got {dtype}")


def test_embedding_and_single_tensors(write):
    net = nn.ModuleDict({"emb": nn.Embedding(7, 3), "rnn": nn.GRU(3, 4)})
    assert torch.equal(load(write(net.state_dict())).stacks[0].embedding, net["emb"].weight.detach())
    probe = torch.randn(5, 3)
    assert torch.equal(read_array(write({"x": probe}, "probe.safetensors")), probe)


def test_metadata_may_name_the_nonlinearity(write):
    rnn = nn.RNN(2, 3, nonlinearity="relu")
    model = load(write(rnn.state_dict(), nonlinearity="relu", format="pt"))
    assert_same_run(model.stacks[0], rnn)
    assert model.notes == ("relu was taken for rnn: the file says so in __metadata__.nonlinearity",)
    assert load(write(rnn.state_dict(), nonlinearity="selu")).stacks[0].layers[0].nonlinearity_assumed


def test_the_tensors_outlive_the_file(write):
    rnn = nn.RNN(3, 4)
    path = write(rnn.state_dict())
    (stack,) = load(path).stacks
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(stack.layers[0].weight_hh, rnn.weight_hh_l0)


def entry(start, stop, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


TWICE = b'{"a": %s, "a": %s}' % ((json.dumps(entry(0, 4)).encode(),) * 2)
LIES = {
    "beyond the file": (raw({"a": entry(0, 4)}, b"123"), "not fully covered"),
    "followed by other data": (raw({"a": entry(0, 4)}, b"12345"), "not fully covered"),
    "overlap": (raw({"a": entry(0, 4), "b": entry(0, 4)}, b"1234"), "invalid offset"),
    "gap": (raw({"a": entry(4, 8)}, b"12345678"), "invalid offset"),
    "wrong size": (raw({"a": entry(0, 8)}, b"12345678"), "invalid shape"),
    "negative": (raw({"a": entry(0, 4, (-1,))}, b"1234"), "expected usize"),
    "overflow": (raw({"a": entry(0, 4, (2**40, 2**40))}, b"1234"), "overflow"),
    "unknown type": (raw({"a": entry(0, 4, dtype="F99")}, b"1234"), "unknown variant"),
    "duplicate": (raw(TWICE, b"1234"), "two entries have the same name"),
    "deep": (raw(b'{"a":' * 100_000), "recursion limit"),
    "no json": (raw(b'{"a": nil}'), "invalid JSON"),
    "no text": (raw(b'{"\xff": 1}'), "invalid UTF-8"),
    "a list": (raw({"a": []}), "invalid JSON"),
    "metadata that is no text": (raw({"__metadata__": {"a": 1}}), "expected a string"),
    "cut short": (raw({"a": entry(0, 4)}, length=1000), "cut short in its header"),
    "enormous header": (raw({}, length=2**39), "more than any model needs"),
    "nothing": (raw({}), "saw no tensors at all"),
    "many dimensions": (raw({"a": entry(0, 4, (1,) * 70)}, b"1234"), "it has 70 dimensions"),
    "small numbers": (raw({"a": entry(0, 1, (2,), "F4")}, b"1"), "expected F64, F32, F16 or BF16, got F4"),
    "a name to break lines": (raw({"\x1b[2J\n" * 300: entry(0, 4)}, b"1234"), "no recurrent layer"),
    "many tensors": (raw({f"{i:x}": entry(0, 0, (0,)) for i in range(150_000)}), "150,000 tensors"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(sandbox, refusal, tmp_path, lie):
    content, words = LIES[lie]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    outcome = sandbox(path)
    assert words in outcome["refused"]
    assert words in refusal(path)
