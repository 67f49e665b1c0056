"""Files of torch.export.save, in its present layout and in the two that it read and wrote before."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.export.pt2_archive._package import PT2ArchiveWriter, package_pt2

from rnndiag.checkpoint import load
from tests.builders.modules import MODULES, Net, assert_same_run
from tests.builders.torch_export_files import present, pt2_of_2_8, zip_of_2_4

pytestmark = pytest.mark.filterwarnings(
    "ignore:The tensor attributes? self:UserWarning",  # of the flat weights that nn.RNN keeps beside its parameters
    "ignore:`isinstance:FutureWarning",  # of torch's own code on its own trees
)


class Model(Net):
    """A recurrent module in a forward method of its own."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__(rnn)
        self.is_cell = isinstance(rnn, nn.RNNCellBase)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("passing", torch.ones(1), persistent=False)

    def forward(self, x):
        return self.rnn(x[0] if self.is_cell else x)[0] * self.scale * self.passing


def exported(net):
    return torch.export.export(net, (torch.randn(4, 2, 3),))


LAYOUTS = pytest.mark.parametrize("layout", [present, pt2_of_2_8, zip_of_2_4])


@pytest.fixture(scope="module")
def programs():
    """Each kind of module and its program: an export takes a second."""
    nets = {kind: Model(make().eval()) for kind, make in MODULES.items()}
    return {kind: (net, exported(net)) for kind, net in nets.items()}


@LAYOUTS
@pytest.mark.parametrize("kind", MODULES)
def test_hidden_states_and_the_nonlinearity_from_the_program(programs, tmp_path, kind, layout):
    net, program = programs[kind]
    path = tmp_path / "model.pt2"
    layout(program, path)
    model = load(path)
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert_same_run(model.stacks[0], net.rnn)
    assert not any(layer.nonlinearity_assumed for layer in model.stacks[0].layers)
    assert model.notes == ()
    assert model.source.format == "torch-export"
    assert {skipped.name for skipped in model.source.skipped} <= {"(top level)", "norm", "head"}


@pytest.mark.parametrize("layout", [pt2_of_2_8, zip_of_2_4])
def test_torch_reads_the_older_layouts_too(programs, tmp_path, layout):
    """The files above are such as torch would read."""
    net, program = programs["relu"]
    path = tmp_path / "model.pt2"
    layout(program, path)
    inputs = torch.randn(4, 2, 3)
    assert torch.equal(torch.export.load(path).module()(inputs), net(inputs))


def test_decomposed_programs(tmp_path):
    """Without a kernel, the class and its only nonlinearity tell."""
    net = Model(nn.RNN(3, 5, nonlinearity="relu"))
    program = exported(net).run_decompositions()
    assert not any("rnn_relu" in str(node.target) for node in program.graph.nodes)
    torch.export.save(program, tmp_path / "model.pt2")
    model = load(tmp_path / "model.pt2")
    assert model.stacks[0].layers[0].cell == "relu"
    assert model.notes == ()
    assert_same_run(model.stacks[0], net.rnn)


def test_several_modules_tied_weights_and_an_embedding(tmp_path):
    class Own(nn.GRUCell):
        pass

    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, 3)
            self.a, self.b, self.c = nn.RNN(3, 4, nonlinearity="relu"), nn.RNN(3, 4), Own(3, 4)
            self.tied = self.a

        def forward(self, i):
            x = self.words(i)
            return self.a(x)[0] + self.b(x)[0] + self.c(x[0]) + self.tied(x)[0]

    net = Several()
    torch.export.save(torch.export.export(net, (torch.randint(7, (5, 2)),)), tmp_path / "model.pt2")
    model = load(tmp_path / "model.pt2")
    assert [(stack.name, stack.layers[0].cell) for stack in model.stacks] == [
        ("a", "relu"),
        ("b", "tanh"),
        ("c", "gru"),
    ]
    for stack in model.stacks:
        assert_same_run(stack, getattr(net, stack.name))
        assert torch.equal(stack.embedding, net.words.weight.detach())
    assert {s.name: s.reason for s in model.source.skipped}["tied"] == "recurrent, but its weights are those of a"
    assert [stack.assumed_class.rpartition(".")[2] for stack in model.stacks] == ["", "", "Own"]


def test_several_programs_in_one_file(programs, tmp_path):
    path = tmp_path / "model.pt2"
    package_pt2(str(path), exported_programs={kind: programs[kind][1] for kind in ("gru", "relu")})
    model = load(path)
    assert {stack.name for stack in model.stacks} == {"gru.rnn", "relu.rnn"}
    for stack in model.stacks:
        assert_same_run(stack, programs[stack.name.removesuffix(".rnn")][0].rnn)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_file_s_precision_is_kept(tmp_path, dtype):
    net = nn.GRU(3, 4).to(dtype)
    torch.export.save(torch.export.export(net, (torch.randn(4, 2, 3, dtype=dtype),)), tmp_path / "model.pt2")
    weight = load(tmp_path / "model.pt2").stacks[0].layers[0].weight_hh
    assert weight.dtype == dtype
    assert torch.equal(weight, net.weight_hh_l0)


def test_compiled_packages_are_refused(refusal, tmp_path):
    path = tmp_path / "compiled.pt2"
    with path.open("wb") as file, PT2ArchiveWriter(file) as archive:
        archive.write_bytes("data/aotinductor/model/model.so", b"\x7fELF")
    assert "compiled by AOTInductor" in refusal(path)


def test_an_archive_without_a_program(refusal, tmp_path):
    path = tmp_path / "model.pt2"
    with path.open("wb") as file, PT2ArchiveWriter(file) as archive:
        archive.write_bytes("extra/notes", b"x")
    assert "a PT2 archive without a program" in refusal(path)
    with path.open("wb") as file, PT2ArchiveWriter(file) as archive:
        archive.write_bytes("models/model.json", b"{}")
    assert "expected data/weights/model_weights_config.json, got models/model.json" in refusal(path)


PROGRAM = {"graph_module": {"graph": {"nodes": []}}}


def weight(path="weight_0", sizes=(1, 1), strides=(1, 1), offset=0, dtype=7, **changes):
    counts = [[{"as_int": n} for n in numbers] for numbers in (sizes, strides)]
    meta = {"dtype": dtype, "sizes": counts[0], "strides": counts[1], "storage_offset": {"as_int": offset}}
    return {"path_name": path, "use_pickle": False, "tensor_meta": meta} | changes


def node(target, stack):
    return {"target": target, "inputs": [], "metadata": {"nn_module_stack": stack}}


@pytest.fixture
def write(tmp_path):
    """A PT2 archive of one RNN cell, one number each, and other weights beside it."""

    def to_file(program=PROGRAM, **others):
        path = tmp_path / "model.pt2"
        config = {"weight_ih": weight(), "weight_hh": weight(offset=1)} | others
        texts = {"models/model.json": program, "data/weights/model_weights_config.json": {"config": config}}
        with path.open("wb") as file, PT2ArchiveWriter(file) as archive:
            for name, content in texts.items():
                archive.write_bytes(name, content if isinstance(content, bytes) else json.dumps(content).encode())
            archive.write_bytes("data/weights/weight_0", b"\0\0\x80\x3f" * 2)
        return path

    return to_file


@pytest.mark.parametrize(
    "other",
    [
        weight(sizes=(10**6, 10**6), strides=(0, 0)),
        weight(strides=(2**61, 1), sizes=(2, 1)),
        weight(offset=2**61),
        weight(dtype=11),
        weight(dtype=8, sizes=(1, 1)),
        weight(use_pickle=True),
        weight(tensor_meta=None),
        weight(sizes=(0,), strides=(1,)),
    ],
)
def test_weights_that_cannot_be(sandbox, write, other):
    outcome = sandbox(write(readout=other))
    assert outcome["layers"] == ["rnn"]
    assert outcome["mib"] < 100


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (weight(sizes=(-1, 1)), "the shape of a tensor is malformed"),
        (weight(strides=(-1, 1)), "the shape of a tensor is malformed"),
        (weight(sizes=(1,) * 70, strides=(1,) * 70), "the shape of a tensor is malformed"),
        (weight(sizes=(1,)), "the shape of a tensor is malformed"),
        (weight(offset=-1), "the shape of a tensor is malformed"),
        (weight(path="weight_7"), "data/weights/weight_7 is missing"),
        (weight(path="../../byteorder"), "data/weights/../../byteorder is missing"),
        ({}, "missing required field `path_name`"),
        (weight(sizes=(2**70, 1)), "the shape of a tensor is malformed"),
    ],
)
def test_descriptions_that_lie(refusal, write, other, words):
    assert words in refusal(write(other=other))


@pytest.mark.parametrize(
    ("program", "cell"),
    [
        ({"graph_module": {"graph": {"nodes": [node("torch.ops.aten.rnn_relu_cell.default", "k,,RNNCell")]}}}, "relu"),
        ({"graph_module": {"graph": {"nodes": [node("torch.ops.aten.rnn_relu_cell.default", "")]}}}, "relu"),
        ({"graph_module": {"graph": {"nodes": [node("torch.ops.aten.relu.default", "k,,Own")]}}}, "tanh"),
        ({"graph_module": {"graph": {"nodes": [node("x", "a,b,c;" * 2_000_000)]}}}, "tanh"),
        ({"graph_module": {"graph": {"nodes": [{}] * 1_000_000}}}, "tanh"),
        (b" " * 2**25, "tanh"),
    ],
)
def test_programs(sandbox, write, program, cell):
    path = write(program)
    outcome = sandbox(path)
    assert outcome["layers"] == ["rnn"]
    assert load(path).stacks[0].layers[0].cell == cell


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"", "truncated"),
        (b"{}", "missing required field `graph_module`"),
        (b'{"a": ' * 100_000, "recursion"),
        (b"[]", "Expected `object`"),
        (b'{"graph_module": {"graph": {"nodes": [3]}}}', "Expected `object`"),
    ],
)
def test_programs_that_are_none(refusal, write, program, words):
    assert words in refusal(write(program))
