"""NumPy arrays within torch files: the numbers are those that NumPy pickled, and NumPy rebuilds nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import read
from rnndiag.checkpoint.unpickling.ndarray import OBJECT_ARRAY
from tests.builders.pickles import name, number, text, whole
from tests.builders.torch_files import zip_of

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3, 4, 5])
LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def leaves(path):
    """The tensors of a file by dotted name."""
    containers = read(path)[1].containers
    return {".".join((*each.path.parts, key)): leaf for each in containers for key, leaf in each.tensors.items()}


def assert_equal(leaf, array):
    tensor = leaf.read()
    assert tuple(tensor.shape) == array.shape == leaf.shape
    assert tensor.dtype == leaf.dtype
    assert np.array_equal(tensor.numpy(), array)
    assert tensor.numpy().dtype == array.dtype.newbyteorder("=")


@LEGACY
@PROTOCOLS
def test_a_dict_of_arrays_is_measured_as_the_tensors_are(reload, protocol, legacy):
    """What ``torch.save`` makes of ``{name: array}``."""
    torch.manual_seed(1)
    tensors = nn.LSTM(3, 40).state_dict()  # 4800 numbers: more than the longest string that is kept in memory
    model = reload({key: t.numpy() for key, t in tensors.items()}, pickle_protocol=protocol, legacy=legacy)
    ((layer,),) = model.stacks[0].levels
    assert layer.cell == "lstm"
    for key, parameter in layer.parameters.items():
        assert torch.equal(parameter, tensors[f"{key}_l0"])


ARRAYS = {
    "float16": np.linspace(-1, 1, 6, dtype="f2").reshape(2, 3),
    "float32": np.linspace(-1, 1, 6000, dtype="f4").reshape(60, 100),
    "float64": np.linspace(-1, 1, 6).reshape(2, 3),
    "big endian": np.linspace(-1, 1, 6, dtype=">f8").reshape(3, 2),
    "large and big endian": np.linspace(-1, 1, 6000, dtype=">f4").reshape(60, 100),
    "Fortran order": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    "large in Fortran order": np.asfortranarray(np.arange(6000, dtype="f4").reshape(20, 30, 10)),
    "axes of another order": np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(1, 0, 2),
    "every second": np.arange(12, dtype="f4").reshape(3, 4)[:, ::2],
    "integers": np.arange(-3, 3),
    "unsigned integers": np.arange(6, dtype="u2"),
    "truth": np.array([True, False]),
    "complex": np.array([[1 + 2j, 3]], "c16"),
    "no numbers": np.ones((0, 3), "f4"),
    "no dimensions": np.array(3.5),
    "a scalar": np.float32(2.5),
    "a subclass": np.arange(4, dtype="f4").reshape(2, 2).view(np.matrix),
    "every byte": np.arange(256, dtype="u1"),
    "quotes and line ends": np.frombuffer(b"'\"\\\n\r\0\x1a\xff" * 1000, dtype="u1").copy(),
}


@LEGACY
@PROTOCOLS
@pytest.mark.parametrize("kind", ARRAYS)
def test_every_kind_of_array(save, kind, protocol, legacy):
    path = save({"a": ARRAYS[kind]}, pickle_protocol=protocol, legacy=legacy)
    assert_equal(leaves(path)["a"], np.asarray(ARRAYS[kind]))


def test_bfloat16(save):
    """Of ml_dtypes: its class is named in the pickle and not imported."""
    data = np.array([[1.0, -2.5], [0.125, 3.0]], "f4")
    raw = (data.view("u4") >> 16).astype("<u2")
    dtype = (
        name("numpy dtype") + name("ml_dtypes bfloat16") + b"\x89\x88\x87R(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xff"
    )
    dtype += b"J\xff\xff\xff\xffK\0tb"
    array = (
        name("numpy.core.multiarray _reconstruct") + name("numpy ndarray") + b"K\0\x85C\x01b\x87R(K\x01K\x02K\x02\x86"
    )
    array += dtype + b"\x89C\x08" + raw.tobytes() + b"tb"
    path = save({})
    zip_of(path, whole(pickle.EMPTY_DICT, text("a"), array, pickle.SETITEM))
    leaf = leaves(path)["a"]
    assert leaf.dtype == torch.bfloat16
    assert torch.equal(leaf.read().float(), torch.from_numpy(data))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([None, {}], object), OBJECT_ARRAY),
        (np.array(["a", "bc"]), "an array of type U2; expected an array of numbers"),
        (np.zeros(2, [("x", "f4"), ("y", "i4")]), "a structured array; expected an array of numbers"),
        (np.array(["2020-01-01"], "M8[D]"), "an array of type M8; expected an array of numbers"),
    ],
    ids=["objects", "text", "structured", "dates"],
)
def test_other_arrays_are_refused_by_name(save, array, reason):
    model = load(save({"rnn": nn.RNN(1, 2).state_dict(), "extra": {"table": array}}))
    assert [(each.name, each.reason) for each in model.source.skipped] == [
        ("extra", f"not recurrent: table ({reason})")
    ]


def test_an_array_under_two_names_is_one_layer(reload):
    own = {key: tensor.numpy() for key, tensor in nn.RNN(2, 40).state_dict().items()}
    model = reload({"rnn": own, "copy": {**own}})
    assert [stack.name for stack in model.stacks] == ["rnn"]
    (skipped,) = model.source.skipped
    assert skipped.name == "copy"
    assert skipped.reason.startswith("recurrent, but its weights are those of rnn")


def test_numbers_of_a_history_are_no_tensors(save):
    """A list of a hundred thousand losses costs no more than other numbers, and is not listed as skipped."""
    model = load(save({"model": nn.RNN(1, 2).state_dict(), "loss": list(np.ones(100_000))}))
    assert len(model.stacks) == 1
    assert not model.source.skipped


def test_a_counter_of_numpy_is_a_counter(reload):
    assert reload({"model": nn.RNN(1, 2).state_dict(), "epoch": np.int64(7)}).source.progress == {"epoch": 7}


def array(shape: bytes, dtype: str, data: bytes) -> bytes:
    """A pickled array of any shape over any numbers."""
    kind = name("numpy dtype") + text(dtype) + b"\x89\x88\x87R"
    head = name("numpy.core.multiarray _reconstruct") + name("numpy ndarray") + b"K\0\x85C\x01b\x87R(K\x01"
    return head + shape + kind + b"\x89C" + bytes([len(data)]) + data + b"tb"


LIES = {
    "more than the file": (number(2**40) + number(2**20) + b"\x86", "f4", "needs 4611686018427387904 bytes"),
    "less than the file": (b"K\x01\x85", "f4", "needs 4 bytes, the file holds 8"),
    "negative": (number(-2) + b"\x85", "f4", "the shape of an array is malformed"),
    "no shape": (text("2"), "f4", "the shape of an array is malformed"),
    "many dimensions": (b"(" + b"K\x01" * 65 + b"t", "f4", "the shape of an array is malformed"),
    "no dtype": (b"K\x02\x85", "9f", "the dtype of an array is malformed"),
    "an unknown dtype": (b"K\x02\x85", "q7", "an array of type q7"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_reason(tmp_path, lie):
    shape, dtype, expected = LIES[lie]
    path = zip_of(
        tmp_path / "model.pt",
        whole(pickle.EMPTY_DICT, text("a"), array(shape, dtype, b"\0\0\x80?\0\0\0@"), pickle.SETITEM),
    )
    assert expected in leaves(path)["a"].reason


def test_nothing_of_numpy_is_called(save, monkeypatch):
    """The functions that the pickle names are replaced by one that fails."""

    def fail(*_: object) -> None:
        raise AssertionError("called")

    path = save({"a": np.ones((40, 40)), "b": np.float64(3)}, pickle_protocol=5)
    for module, attribute in ((np._core.multiarray, "_reconstruct"), (np._core.numeric, "_frombuffer"),
                              (np._core.multiarray, "scalar")):  # fmt: skip
        monkeypatch.setattr(module, attribute, fail)
    assert leaves(path)["a"].read().sum() == 1600
