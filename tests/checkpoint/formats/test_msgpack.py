"""Flax's trees in MessagePack: the tensors by dotted name, bit for bit; lies about sizes in one line."""

from __future__ import annotations

import struct

import msgpack
import numpy as np
import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import format_of, read
from rnndiag.errors import NotAModelError
from tests.builders.msgpack_files import in_pieces, msgpack_bytes, raw_array


@pytest.fixture
def write(tmp_path):
    def written(tree: object, name: str = "model.msgpack"):
        (tmp_path / name).write_bytes(tree if isinstance(tree, bytes) else msgpack_bytes(tree))
        return tmp_path / name

    return written


def tensors_of(path):
    """The tensors of a file, which are in one container."""
    name, contents = read(path)
    assert name == "msgpack"
    (container,) = contents.containers
    assert container.path.parts == ()
    return container.tensors


KERNEL = np.arange(6, dtype="f4").reshape(2, 3)


def test_names_are_dotted_paths(write):
    gates = {f"h{gate}": {"kernel": KERNEL, "bias": np.zeros(3, "f4")} for gate in "ifgo"}
    found = tensors_of(write({"params": {"LSTMCell_0": gates}, "batch_stats": {}}))
    assert list(found) == [f"params.LSTMCell_0.h{gate}.{kind}" for gate in "ifgo" for kind in ("kernel", "bias")]
    assert torch.equal(found["params.LSTMCell_0.hf.kernel"].read(), torch.from_numpy(KERNEL))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "?", "c8"])
def test_types(write, dtype):
    array = np.arange(12).reshape(3, 2, 2).astype(dtype)
    tensor = tensors_of(write({"a": array, "b": array.T}))
    for key, expected in (("a", array), ("b", array.T)):
        assert tensor[key].shape == expected.shape
        assert np.array_equal(tensor[key].read().numpy(), expected)


def test_bfloat16(write):
    numbers = np.array([[1.0, -2.5], [0.125, 3.0]], "f4")
    raw = (numbers.view("u4") >> 16).astype("<u2")
    leaf = tensors_of(write({"a": raw_array((2, 2), "bfloat16", raw.tobytes())}))["a"]
    assert leaf.dtype == torch.bfloat16
    assert torch.equal(leaf.read().float(), torch.from_numpy(numbers))


def test_an_array_in_pieces(write):
    array = np.arange(24, dtype="f4").reshape(4, 6)
    leaf = tensors_of(write({"a": in_pieces(array, 10)}))["a"]
    assert leaf.shape == (4, 6)
    assert torch.equal(leaf.read(), torch.from_numpy(array))


def test_numbers_and_lists(write):
    path = write({"step": np.int32(7), "params": [KERNEL, {"b": KERNEL}], "x": 1 + 2j, "y": None, "z": [True, 1.5, -3]})
    found = tensors_of(path)
    assert list(found) == ["step", "params.0", "params.1.b"]
    assert read(path)[1].progress == {"step": 7}


def test_a_layer_is_measured_and_optimizer_state_is_not(write):
    own = {key: tensor.numpy() for key, tensor in nn.GRU(3, 5).state_dict().items()}
    model = load(
        write({"epoch": 3, "params": {"rnn": own}, "opt_state": {"0": {"mu": {"rnn": own}, "nu": {"rnn": own}}}})
    )
    ((layer,),) = model.stacks[0].levels
    assert layer.cell == "gru"
    assert np.array_equal(layer.weight_hh.numpy(), own["weight_hh_l0"])
    assert model.source.format == "msgpack"
    assert model.source.framework == "Flax"
    assert model.source.progress == {"epoch": 3}
    assert [(each.name, each.reason) for each in model.source.skipped] == [("opt_state", "optimizer state")]


def test_a_file_without_tensors_is_no_model(write):
    with pytest.raises(NotAModelError, match="only settings"):
        load(write({"vocabulary": {"a": 1}, "long": "x" * 10_000, "blob": b"x" * 10_000}))


FIRST = b"\xa5first\xda\x02\x58" + b"x" * 600
"""An entry that fills the bytes that show the format."""
LIES = {
    "more numbers than bytes": ({"a": raw_array((1 << 40, 1 << 20), "float32", b"12345678")}, "it holds 8"),
    "fewer numbers than bytes": ({"a": raw_array((1,), "float32", b"12345678")}, "needs 4 bytes, it holds 8"),
    "a negative size": ({"a": raw_array((-1, -2), "float32", b"12345678")}, "an array is malformed"),
    "a shape of texts": ({"a": raw_array(("2",), "float32", b"12345678")}, "an array is malformed"),
    "many dimensions": ({"a": raw_array((1,) * 65, "float32", b"1234")}, "an array is malformed"),
    "two parts": ({"a": msgpack.ExtType(1, msgpack.packb(((2,), "float32")))}, "an array is malformed"),
    "numbers as text": ({"a": raw_array((2,), "float32", "12345678")}, "an array is malformed"),
    "parts of another size": (
        {"a": msgpack.ExtType(1, msgpack.packb(1) + b"\0")}, "differs from the size of its parts",
    ),
    "a map of many": (b"\xa1a\xdf\xff\xff\xff\xff\xa1b\x01", "it declares 4,294,967,295 entries"),
    "an array of many": (b"\xa1a\xdd\xff\xff\xff\xff\x01", "it declares 4,294,967,295 entries"),
    "a long extension": (b"\xa1a\xc9\xff\xff\xff\xff\x01abc", "it declares 4,294,967,295 bytes"),
    "a long binary": (b"\xa1a\xc6\xff\xff\xff\xffabc", "it declares 4,294,967,295 bytes"),
    "a long text": (b"\xa1a\xdb\xff\xff\xff\xffabc", "it declares 4,294,967,295 bytes"),
    "two of one name": (b"\xa5first\x01", "two entries have the name first"),
    "an unknown type": (b"\xa1a\xc1", "no value begins with the byte 0xc1"),
    "a number as a name": (b"\xcb" + b"\0" * 8 + b"\x01", "a name that is not a short text"),
    "a name that is no text": (b"\xa1\xff\x01", "a text that is not UTF-8"),
    "more after it": (b"\xa1a\x01junk", "4 bytes follow the tree"),
    "pieces that do not fit": ({"a": {**in_pieces(KERNEL, 4), "shape": {"0": 7}}}, "in pieces of 6 numbers together"),
    "pieces of another type": (
        {"a": in_pieces(KERNEL, 4) | {"chunks": {"0": KERNEL[0], "1": KERNEL[1].astype("f8")}}}, "differ in type",
    ),
    "no pieces": ({"a": {**in_pieces(KERNEL, 4), "chunks": {}}}, "an array in pieces is malformed"),
    "one dotted name twice": ({"a": {"b": KERNEL}, "a.b": KERNEL}, "two tensors have the name a.b"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_one_line(write, refusal, lie):
    entry, expected = LIES[lie]
    tree = msgpack_bytes({"first": "x" * 600, **entry}) if isinstance(entry, dict) else b"\x82" + FIRST + entry
    assert expected in refusal(write(tree))


def test_a_tree_that_is_too_deep(sandbox, write):
    maps = b"\x81\xa1a" * 100 + b"\x01"
    extensions = b"\x01"
    for _ in range(200):
        extensions = b"\xc9" + struct.pack(">I", len(extensions)) + b"\x01" + extensions
    for nested in (maps, extensions):
        outcome = sandbox(write(b"\x82" + FIRST + b"\xa1a" + nested))
        assert "nested deeper than 64 levels" in outcome["refused"]


BOMBS = {
    "numbers": b"\x81\xa1a\xdd" + struct.pack(">I", 5_000_000) + b"\x01" * 5_000_000,
    "empty maps": b"\x81\xa1a\xdd" + struct.pack(">I", 5_000_000) + b"\x80" * 5_000_000,
    "names": b"\xdf" + struct.pack(">I", 700_000) + b"".join(b"\xa6%06x\x01" % i for i in range(700_000)),
    "longer names": b"\xdf" + struct.pack(">I", 40_000)
    + b"".join(b"\xda\x03\xe8%01000d\x01" % i for i in range(40_000)),
    "tensors": b"\xdf" + struct.pack(">I", 200_000)
    + b"".join(b"\xa6%06x\xc7\x11\x01\x93\x90\xa7float32\xc4\x04abcd" % i for i in range(200_000)),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_more_than_any_model_needs(sandbox, write, bomb):
    outcome = sandbox(write(BOMBS[bomb]))
    assert "refused" in outcome


OTHERS = (
    "あいう".encode("shift-jis") * 30, b"\x81\xa0\x01", b"\x80\x01", bytes(range(0x81, 0x100)), b"\xdf" * 600,
    b"\x81\x01\x02", b"\x85" + b"\xff" * 50,
)  # fmt: skip


@pytest.mark.parametrize("content", OTHERS)
def test_other_files_are_not_recognized(write, refusal, content):
    assert "MessagePack" not in refusal(write(content))


def test_it_is_recognized_by_its_content(write):
    assert format_of(write({"params": {"k": KERNEL}}, "weights.bin")).name == "msgpack"
