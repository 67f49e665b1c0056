"""NumPy's files: named arrays are layers like any other; nothing is unpickled, and no size is taken on trust."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from rnndiag.checkpoint import load, read_contents
from rnndiag.checkpoint.contents import StoredTensor, Unusable
from rnndiag.checkpoint.formats.numpy import MAX_ARRAYS
from rnndiag.trajectory import run_stack

LAYER = {"weight_ih": np.ones((1, 1), "f4"), "weight_hh": np.ones((1, 1), "f4")}
"""Something to measure beside an attack."""

SAVERS = pytest.mark.parametrize("save", [np.savez, np.savez_compressed])


def numpy_state(module, separator="."):
    return {name.replace(".", separator): value.numpy() for name, value in module.state_dict().items()}


def npy(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    header = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def declared(shape: object, descr: object = "<f4", order: object = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}}}\n"


def npz_of(path, **members):
    """An archive around any bytes, beside a real layer."""
    np.savez(path, **LAYER)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def reason(model):
    (skipped,) = model.source.skipped
    return skipped.reason


@SAVERS
@pytest.mark.parametrize("separator", [".", "/"])
def test_a_state_dict_by_name(tmp_path, save, separator):
    net = nn.ModuleDict({"emb": nn.Embedding(9, 3), "enc": nn.LSTM(3, 4, 2, bidirectional=True)}).double()
    save(tmp_path / "model.npz", **numpy_state(net, separator))
    model = load(tmp_path / "model.npz")
    (stack,) = model.stacks
    assert model.source.format == "npz"
    assert [layer.name for layer in stack.layers] == ["enc.l0", "enc.l0.reverse", "enc.l1", "enc.l1.reverse"]
    assert torch.equal(stack.embedding, net["emb"].weight)
    inputs = torch.randn(7, 2, 3, dtype=torch.float64)
    runs = run_stack(stack, inputs)[-1]
    outputs = torch.cat([runs[0].hidden, runs[1].hidden.flip(0)], -1)
    torch.testing.assert_close(outputs, net["enc"](inputs)[0].detach(), rtol=1e-12, atol=1e-13)


NAMES = st.text("ab./", max_size=5)
FLOATS = st.sampled_from(["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.dictionaries(NAMES, arrays.arrays(FLOATS, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))),
    fortran=st.booleans(),
    compressed=st.booleans(),
)
def test_any_array_comes_back_bit_for_bit(tmp_path, held, fortran, compressed):
    path = tmp_path / "held.npz"
    held = {"first": np.zeros(2)} | {f"x{i}.{name}": a for i, (name, a) in enumerate(held.items())}
    ordered = {name: np.asarray(a, order="F" if fortran else "C") for name, a in held.items()}
    (np.savez_compressed if compressed else np.savez)(path, **ordered)
    contents = read_contents(path)
    (container,) = contents.containers
    assert len(container.tensors) == len(held)
    assert contents.size == sum(array.nbytes for array in held.values())
    for array, leaf in zip(held.values(), container.tensors.values(), strict=True):
        assert isinstance(leaf, StoredTensor)
        tensor = leaf.read()
        assert tuple(tensor.shape) == leaf.shape == array.shape
        assert tensor.dtype == leaf.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([{}]), "an object array is a pickle, which is not run: save with np.savez(**arrays)"),
        (np.zeros(2, [("a", "f4")]), "expected an array of numbers, got a structured array"),
        (np.zeros(2, [("a", "O")]), "an object array is a pickle"),
        (np.zeros(2, "U3"), "expected an array of numbers, got an array of <U3"),
        (np.zeros(2, "M8[s]"), "got an array of datetime64[s]"),
        (np.zeros((2, 2), np.int64), "expected float16, float32 or float64, got [2, 2] of int64"),
        (np.zeros((2, 2), complex), "got [2, 2] of complex128"),
    ],
)
def test_other_arrays_are_passed_over_with_the_reason(tmp_path, array, words):
    np.savez(tmp_path / "model.npz", **LAYER, **{"net.x": array})
    model = load(tmp_path / "model.npz")
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert words in reason(model)


def test_only_what_a_layer_needs_is_read(tmp_path):
    """The damaged array beside the layer is never touched; the layer's own is named."""
    for name, found in (("other", True), ("rnn.weight_hh", False)):
        state = {"rnn.weight_ih": np.ones((3, 2)), "rnn.weight_hh": np.ones((3, 3)), "other": np.ones(50)}
        np.savez(tmp_path / "model.npz", **state, **LAYER)
        data = bytearray((tmp_path / "model.npz").read_bytes())
        data[data.index(state[name].tobytes(), data.index(name.encode() + b".npy")) + 3] ^= 1
        (tmp_path / "model.npz").write_bytes(data)
        model = load(tmp_path / "model.npz")
        assert ("rnn" in [stack.name for stack in model.stacks if stack.layers[0].hidden_size == 3]) == found
        assert found or "weight_hh: damaged (Bad CRC-32" in str(model.source.skipped)


def test_one_table_read_by_many_layers_is_paid_for_once(tmp_path):
    rng = np.random.default_rng(0)
    state = {"emb.weight": rng.normal(size=(5000, 3))}
    for i in range(4):
        state |= {f"rnn{i}.weight_ih": rng.normal(size=(2, 3)), f"rnn{i}.weight_hh": rng.normal(size=(2, 2))}
    np.savez(tmp_path / "model.npz", **state)
    stacks = load(tmp_path / "model.npz").stacks
    assert len(stacks) == 4
    assert all(stack.embedding is stacks[0].embedding is not None for stack in stacks)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4), "f4"), "one array, [3, 4] of float32; expected several with their names"),
        (np.array({"weight_hh": 1}), "an object array is a pickle, which is not run: save with np.savez(**arrays)"),
    ],
)
def test_one_array_is_no_layer(refusal, tmp_path, array, words):
    np.save(tmp_path / "model.npy", array)
    assert words in refusal(tmp_path / "model.npy")


def test_an_archive_without_layers_says_what_it_saw(refusal, tmp_path):
    np.savez(tmp_path / "model.npz", np.zeros((2, 3)), w=np.zeros(4))
    assert "no recurrent layer" in refusal(tmp_path / "model.npz")
    assert "saw (top level) (w [4], arr_0 [2, 3])" in refusal(tmp_path / "model.npz")


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("data", ["npz", "npy", "pickle"])
def test_no_pickle_is_run(sandbox, tmp_path, data):
    target, path = tmp_path / "written", tmp_path / "model"
    attack = np.array([Hostile(target)], dtype=object)
    stream = io.BytesIO()
    np.save(stream, attack, allow_pickle=True)
    contents = {"npy": stream.getvalue(), "pickle": pickle.dumps({"weight_hh": Hostile(target)})}
    if data == "npz":
        assert sandbox(npz_of(path, weight_hr=stream.getvalue()))["refused"]
    else:
        path.write_bytes(contents[data])
        assert sandbox(path)["refused"]
    assert not target.exists()


HEADERS = {
    "a declared size without data": npy(declared((2**40,))),
    "a negative size": npy(declared((-1, 4)), b"\0" * 16),
    "sizes that multiply to nothing": npy(declared((0, 2**62)), b""),
    "sizes that overflow": npy(declared((2**32, 2**32))),
    "a thousand axes": npy(declared((1,) * 1000), b"\0" * 4),
    "a number for a shape": npy(declared(4), b"\0" * 16),
    "a long header": npy(b" " * 2**24, version=2),
    "a header longer than the file": npy(b"{")[:8] + struct.pack("<H", 60_000),
    "a later version": npy(declared((1,)), b"\0" * 4, version=3),
    "an unknown version": npy(declared((1,)), b"\0" * 4, version=9),
    "brackets": npy("(" * 9000),
    "signs": npy("-" * 9000 + "1"),
    "powers": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,)}"),
    "a call": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (print(1),)}"),
    "a wide element": npy(declared((1,), "V2000000000")),
    "elements in elements": npy(declared((1,), [("a", [("b", ("<f4", (10**6, 10**3)))])])),
    "an unknown element": npy(declared((1,), "zebra")),
    "nothing": b"",
    "another magic": b"\x93NUMPX" + b"\0" * 99,
}


@pytest.mark.parametrize("attack", HEADERS)
def test_hostile_headers_are_passed_over(sandbox, tmp_path, attack):
    outcome = sandbox(npz_of(tmp_path / "model.npz", **{"net.weight_hh": HEADERS[attack]}))
    assert outcome["layers"] == ["rnn"]
    assert outcome["mib"] < 150
    (tmp_path / "model.npy").write_bytes(HEADERS[attack])
    assert "refused" in sandbox(tmp_path / "model.npy")


@pytest.mark.parametrize(("count", "rows"), [(1, 8000), (64, 1000)])
def test_zeros_without_end_are_not_unpacked(sandbox, tmp_path, count, rows):
    """A thousandth of what they unpack to: one large matrix, or many small ones."""
    path = tmp_path / "model.npz"
    bombs = {f"n{i}.weight_hh": np.zeros((rows, rows), "f4") for i in range(count)}
    np.savez_compressed(path, **LAYER, **bombs, **{f"{name[:-2]}ih": np.zeros((rows, 1)) for name in bombs})
    assert path.stat().st_size < 2**20
    outcome = sandbox(path)
    assert outcome["layers"][0] == "rnn"
    assert len(outcome["layers"]) < 20
    assert outcome["mib"] < 300


def test_members_that_share_their_data_do_not_multiply_it(sandbox, tmp_path):
    path = tmp_path / "model.npz"
    matrix = np.zeros((1000, 1000), "f4")
    np.savez_compressed(path, **LAYER, **{f"n{i}.weight_hh": matrix for i in range(99)})
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    offset = data.index(b"n0.weight_hh") - 30
    for i in range(99):
        at = data.index(f"n{i}.weight_hh.npy".encode(), directory) - 46
        data[at + 42 : at + 46] = struct.pack("<L", offset)
    path.write_bytes(data)
    assert sandbox(path)["layers"] == ["rnn"]


def test_members_beyond_number(sandbox, tmp_path):
    path = npz_of(tmp_path / "model.npz", **{f"x{i}": b"" for i in range(MAX_ARRAYS)})
    assert "10,002 arrays; expected at most 10,000" in sandbox(path)["refused"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_passed_over(tmp_path, method):
    stream = io.BytesIO()
    np.save(stream, np.zeros((9, 9)))
    path = npz_of(tmp_path / "model.npz")
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("n/weight_hh.npy", stream.getvalue())
    assert "packed in another way" in reason(load(path))


def test_names_that_become_the_same(tmp_path):
    np.savez(tmp_path / "model.npz", **LAYER, **{"a/b": np.zeros(2), "a.b": np.zeros(3), "x" * 2000: np.zeros(1)})
    skipped = {each.name[:3]: each.reason for each in load(tmp_path / "model.npz").source.skipped}
    assert skipped == {"a": "not recurrent: b [2]", "a.b": "a second array of this name", "xxx": "its name is too long"}


def test_the_reason_for_damage_is_kept_in_the_leaf(tmp_path):
    path = npz_of(tmp_path / "model.npz", x=npy(declared((4,)), b"\0" * 16))
    leaf = read_contents(path).containers[0].tensors["x"]
    path.write_bytes(b"")
    assert isinstance(leaf.read(), Unusable)
