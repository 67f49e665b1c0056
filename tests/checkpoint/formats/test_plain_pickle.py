"""Plain pickles and joblib's files: arrays, tensors, modules and own classes, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import pickletools
import zlib
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import read
from rnndiag.checkpoint.unpickling.ndarray import OBJECT_ARRAY
from rnndiag.errors import NotAModelError
from tests.builders.pickled_files import joblib_bytes, joblib_file, module_of
from tests.builders.pickles import name, number, storage, tensor, text, whole

PROTOCOLS = pytest.mark.parametrize("protocol", range(6))
COMPRESS = {
    "zlib": zlib.compress,
    "zlib 9": lambda data: zlib.compress(data, 9),
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


@pytest.fixture
def tensors():
    """More numbers than the longest string that is kept in memory."""
    torch.manual_seed(2)
    return nn.GRU(5, 40, bidirectional=True).state_dict()


@pytest.fixture
def write(tmp_path):
    def written(data: bytes, name: str = "model.pkl"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return written


def assert_measured(path, tensors):
    """Each parameter of the layers is one of the tensors, bit for bit, and there are no others."""
    model = load(path)
    (stack,) = model.stacks
    left = dict(tensors)
    for layer in stack.layers:
        suffix = "_l0" + "_reverse" * (layer.direction == "reverse")
        for key, value in layer.parameters.items():
            assert torch.equal(value, left.pop(key + suffix))
    assert not left
    assert model.source.format == "pickle"
    return model


def arrays_of(tensors):
    return {key: tensor.numpy() for key, tensor in tensors.items()}


@PROTOCOLS
def test_a_dict_of_arrays(write, tensors, protocol):
    model = assert_measured(write(pickle.dumps(arrays_of(tensors), protocol)), tensors)
    assert model.source.framework == ""


@PROTOCOLS
def test_a_dict_of_tensors(write, tensors, protocol):
    """Each holds a whole torch file as a string of bytes."""
    model = assert_measured(write(pickle.dumps(tensors, protocol)), tensors)
    assert model.source.framework == "PyTorch"


@PROTOCOLS
def test_small_tensors(write, protocol):
    """Their torch files are short enough to be kept in memory."""
    small = nn.RNN(1, 2).state_dict()
    assert_measured(write(pickle.dumps(small, protocol)), small)


@PROTOCOLS
def test_a_pickled_module(write, tensors, protocol):
    module = nn.GRU(5, 40, bidirectional=True)
    module.load_state_dict(tensors)
    model = assert_measured(write(pickle.dumps({"net": module}, protocol)), tensors)
    assert [stack.name for stack in model.stacks] == ["net"]


def test_a_half_precision_tensor_that_is_a_view(write):
    whole_weight = torch.randn(8, 4).bfloat16()
    own = {"weight_ih_l0": whole_weight[:4, :3].clone(), "weight_hh_l0": whole_weight.t()[:, 4:]}
    ((layer,),) = load(write(pickle.dumps(own))).stacks[0].levels
    assert torch.equal(layer.weight_hh, own["weight_hh_l0"])
    assert torch.equal(layer.weight_ih, own["weight_ih_l0"])


@pytest.mark.parametrize("compress", COMPRESS)
@pytest.mark.parametrize("kind", ["arrays", "tensors", "joblib"])
def test_compressed(write, tensors, kind, compress):
    match kind:
        case "arrays":
            data = pickle.dumps(arrays_of(tensors))
        case "tensors":
            data = pickle.dumps(tensors)
        case _:
            data = joblib_bytes(arrays_of(tensors))
    assert_measured(write(COMPRESS[compress](data)), tensors)


@PROTOCOLS
@pytest.mark.parametrize("aligned", [False, True])
def test_joblib(tmp_path, tensors, protocol, aligned):
    path = joblib_file(tmp_path / "model.joblib", arrays_of(tensors), protocol=protocol, aligned=aligned)
    assert_measured(path, tensors)


def test_joblib_s_orders_and_types(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(24, dtype="f4").reshape(2, 3, 4)),
        "big": np.arange(6, dtype=">f8"),
        "empty": np.zeros((0, 2)),
        "objects": np.array([np.ones(3), "x", None], object),
        "after": np.arange(5.0),
    }
    (container,) = read(joblib_file(tmp_path / "model.joblib", arrays))[1].containers
    found = container.tensors
    assert found.pop("objects").reason == OBJECT_ARRAY
    for key, leaf in found.items():
        assert np.array_equal(leaf.read().numpy(), arrays[key])


def test_several_pickles_in_a_row(write, tensors):
    """As a program that calls ``pickle.dump`` again and again writes them."""
    model = load(write(pickle.dumps({"epoch": 3}) + pickle.dumps(arrays_of(tensors)) + pickle.dumps([1, 2], 0)))
    assert [layer.cell for stack in model.stacks for layer in stack.layers] == ["gru", "gru"]


def test_own_classes_are_one_container_with_their_paths(write):
    """As madmom's LSTM layers: an object for each gate."""
    gate = {"weights": np.ones((3, 2), "f4"), "bias": np.zeros(2, "f4")}
    with module_of("mymodels", "Net", "Layer", "Gate") as own:
        layer = own.Layer(input_gate=own.Gate(**gate), forget_gate=own.Gate(**gate), init=np.zeros(2))
        data = [pickle.dumps(own.Net(layers=[layer], name="x"), protocol) for protocol in range(6)]
    for each in data:
        (container,) = read(write(each))[1].containers
        assert container.path.parts == ("layers", "0")
        assert set(container.tensors) == {
            "init", "input_gate.weights", "input_gate.bias", "forget_gate.weights", "forget_gate.bias",
        }  # fmt: skip
        assert {key: facts.class_path for key, facts in container.facts.items()} == {
            "": "mymodels.Layer", "input_gate": "mymodels.Gate", "forget_gate": "mymodels.Gate",
        }  # fmt: skip


def test_an_optimizer_that_an_object_holds_is_skipped(write):
    own = nn.RNN(2, 3)
    optimizer = torch.optim.Adam(own.parameters())
    own(torch.ones(1, 1, 2))[0].sum().backward()
    optimizer.step()
    with module_of("mytraining", "Trainer") as made:
        data = pickle.dumps(made.Trainer(net=own, scale=np.ones((2, 2)), optimizer=optimizer))
    model = load(write(data))
    assert [stack.name for stack in model.stacks] == ["net"]
    assert ("optimizer", "optimizer state") in [(each.name, each.reason) for each in model.source.skipped]


@pytest.mark.parametrize("hidden", [2, 40])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_torch_file_as_a_string_of_bytes(write, hidden, legacy):
    """As skorch pickles a net: what depends on the device is in a file of torch.save's."""
    torch.manual_seed(3)
    net = nn.LSTM(2, hidden)
    file = io.BytesIO()
    torch.save({"module_": net}, file, _use_new_zipfile_serialization=not legacy)
    with module_of("skorch.net", "NeuralNet") as made:
        data = pickle.dumps(made.NeuralNet(lr=0.1, __cuda_dependent_attributes__=file.getvalue()))
    assert_measured(write(data), net.state_dict())


def test_a_torch_file_within_a_torch_file_within_a_pickle_is_not_opened(write):
    """One level only."""
    inner = io.BytesIO()
    torch.save(nn.RNN(2, 30).state_dict(), inner)
    outer = io.BytesIO()
    torch.save({"blob": inner.getvalue()}, outer)
    assert not read(write(pickle.dumps({"blob": outer.getvalue()})))[1].containers


DESCRIBED = name("numpy.core.multiarray _reconstruct") + b"q\1)q\2" + b"(K\x01K\x02\x85" + name("numpy dtype")
DESCRIBED += text("f4") + b"\x89\x88\x87R\x89C\x08abcdefghtq\3"
"""The function as memo 1, no arguments as memo 2, and the state of an array as memo 3."""
BOMBS = {
    "pickles": b"\x80\x02N." * 2_000_000,
    "objects": whole(name("a B"), b"q\1)q\2(", b"h\1h\2\x81}\x8c\1xNsb" * 300_000, b"t"),
    "objects in objects": whole(name("a B"), b"q\1)q\2", b"h\1h\2\x81}\x8c\1x" * 50_000, b"N", b"sb" * 50_000),
    "arrays": whole(DESCRIBED, b"(", b"h\1h\2Rh\3b" * 300_000, b"t"),
    "scalars": whole(
        name("numpy.core.multiarray scalar"), b"q\1", name("numpy dtype"), text("f8"),
        b"\x89\x88\x87RC\x08abcdefgh\x86q\2(",
        b"h\1h\2R" * 500_000, b"t",
    ),
    "a line without end": b"(lp0\nV" + b"a" * 50_000_000,
    "a long line": b"(lp0\nV" + b"a" * 50_000_000 + b"\na.",
    "tensors": whole(b"(", pickletools.optimize(pickle.dumps(torch.ones(2), 2))[2:-1] * 5000, b"t"),
    "blobs that begin like zip archives": whole(b"(", (b"B\x00\x20\0\0" + b"PK\3\4".ljust(8192, b"x")) * 5_000, b"t"),
}  # fmt: skip
"""Small objects of great number, and long strings."""


class TestBadInput:
    def test_a_settings_file_is_no_model(self, write):
        with pytest.raises(NotAModelError, match="only settings or a vocabulary"):
            load(write(pickle.dumps({"words": {"a": 1}})))

    @pytest.mark.parametrize("bomb", BOMBS)
    def test_bombs(self, sandbox, write, bomb):
        assert "refused" in sandbox(write(BOMBS[bomb]))

    def test_a_part_of_a_torch_file(self, write, refusal):
        path = write(whole(text("a"), tensor(storage("0", 4), (2, 2), (2, 1))))
        assert "it is a part of a torch file, of which the whole is needed" in refusal(path)

    def test_a_damaged_torch_file_within(self, write, refusal, tensors):
        data = pickle.dumps({"a": tensors["weight_hh_l0"]}).replace(b"M\xe9\x03.", b"M\xea\x03.")
        assert "cannot be read as pickle: its protocol has version 1002" in refusal(write(data))

    def test_more_behind_the_pickle(self, write, refusal):
        assert "no place in a model" in refusal(write(pickle.dumps({"a": np.ones(3)}) + b"\xff\xff"))

    @pytest.mark.parametrize("compress", COMPRESS)
    def test_a_compressed_bomb(self, sandbox, write, compress):
        """Zeros without end, a thousandth of their size or less."""
        data = pickle.dumps({"a": np.zeros(96 << 17)})
        path = write(COMPRESS[compress](data))
        assert path.stat().st_size < 2 << 20
        assert "unpacks to more than" in sandbox(path)["refused"]

    @pytest.mark.parametrize("compress", COMPRESS)
    def test_a_compressed_file_that_is_cut_short_or_goes_on(self, write, refusal, compress):
        data = COMPRESS[compress](pickle.dumps({"a": np.arange(3000.0)}))
        # Half a block of bzip2 does not show what it holds.
        expected = "compressed by bzip2" if compress == "bz2" else "compressed stream is"
        assert expected in refusal(write(data[: len(data) // 2]))
        assert "follow the compressed stream" in refusal(write(data + b"abc"))

    def test_a_joblib_array_larger_than_the_file(self, write, refusal):
        data = joblib_bytes({"a": np.ones((2, 2))})
        at = data.index(b"K\x02K\x02\x86")
        path = write(data[:at] + number(2**30) + number(2**30) + b"\x86" + data[at + 5 :])
        assert "it is cut short" in refusal(path)

    def test_joblib_before_0_10(self, write):
        """Its arrays lie in other files."""
        with module_of("joblib.numpy_pickle", "NDArrayWrapper") as made:
            data = pickle.dumps({"a": made.NDArrayWrapper(filename="../../secret.npy", subclass=0)})
        (container,) = read(write(data))[1].containers
        assert container.tensors["a"].reason.startswith("its numbers are in another file")

    @pytest.mark.parametrize("kind", ["dtype", "shape"])
    def test_a_malformed_description(self, write, refusal, kind):
        wrapper = name("joblib.numpy_pickle NumpyArrayWrapper") + b")\x81}(" + text("shape")
        wrapper += (b"K\x01\x85" if kind == "dtype" else b"K\xff") + text("dtype") + b"Nub"
        assert f"the {kind} of an array is malformed" in refusal(write(whole(wrapper)))


TEXTS = (
    "cat\ndog\nqueen\n", "(due to a fault)\nmore", "{}\n", "[1, 2]\n", "d\nl\n", "import os\nprint(1)\n", "lp: 3\n",
    "(see below)\n", "", "I am a text.\n",
)  # fmt: skip


@pytest.mark.parametrize("words", TEXTS)
def test_a_text_is_no_pickle(write, refusal, words):
    assert "as pickle" not in refusal(write(words.encode(), "notes.txt"))


def test_an_ordered_dict_and_a_namespace(write):
    """What a pickle of protocol 0 holds in place of a dict."""
    own = nn.RNN(2, 3).state_dict()
    for protocol in range(6):
        data = pickle.dumps(SimpleNamespace(weights=OrderedDict(arrays_of(own))), protocol)
        assert [stack.name for stack in load(write(data)).stacks] == ["weights"]
