"""TorchScript archives, written by torch.jit; what runs them is the module's own code, never rnndiag."""

from __future__ import annotations

import zipfile
from pickle import BUILD, EMPTY_DICT, EMPTY_TUPLE, MARK, NEWOBJ, SETITEM, SETITEMS

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from tests.builders.modules import MODULES, Net, assert_same_run
from tests.builders.pickles import DATA, calls, name, storage, tensor, text, whole
from tests.builders.torch_files import zip_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # torch.jit is deprecated, its files are not
    "ignore::torch.jit.TracerWarning",  # of each branch that a trace fixes
    "ignore:LSTM with projections is not supported with oneDNN",
)


class Model(Net):
    """A recurrent module in a forward method of its own, so that a trace meets it as a child."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__(rnn)
        self.is_cell = isinstance(rnn, nn.RNNCellBase)
        self.names = ["a", "b"]
        self.register_buffer("scale", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.rnn(x[0] if self.is_cell else x)[0]
        return states * self.scale[0]


def script(module):
    return torch.jit.script(module)


def trace(module):
    return torch.jit.trace(module, torch.randn(4, 2, 3), check_trace=False)


@pytest.fixture
def write(tmp_path):
    def to_file(scripted, name="model.pt", *, mobile=False, **options):
        path = tmp_path / name
        if mobile:
            scripted._save_for_lite_interpreter(str(path))
        else:
            torch.jit.save(scripted, path, **options)
        return path

    return to_file


@pytest.mark.parametrize("mobile", [False, True], ids=["server", "mobile"])
@pytest.mark.parametrize("form", [script, trace])
@pytest.mark.parametrize("kind", MODULES)
def test_hidden_states_and_the_nonlinearity_from_the_code(write, kind, form, mobile):
    net = Model(MODULES[kind]())
    model = load(write(form(net), mobile=mobile))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert_same_run(model.stacks[0], net.rnn)
    assert not any(layer.nonlinearity_assumed for layer in model.stacks[0].layers)
    assert model.notes == ()
    assert model.source.format == "torchscript"
    assert {skipped.name for skipped in model.source.skipped} == {"(top level)", "norm", "head"}


@pytest.mark.parametrize("form", [script, trace])
def test_each_class_has_its_own_nonlinearity(write, form):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.RNN(3, 4, nonlinearity="relu"), nn.RNN(3, 4)
            self.c, self.d = nn.RNNCell(3, 4), nn.RNNCell(3, 4, nonlinearity="relu")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x)[0] + self.b(x)[0] + self.c(x[0]) + self.d(x[0])

    net = Both()
    model = load(write(form(net)))
    assert [stack.layers[0].cell for stack in model.stacks] == ["relu", "tanh", "tanh", "relu"]
    for stack in model.stacks:
        assert_same_run(stack, getattr(net, stack.name))


def test_code_that_the_class_does_not_hold_is_a_statement(write):
    """The weights lie in one module and are used in another."""

    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight_ih, self.weight_hh = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4, 4))

    class User(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Weights()

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            return torch.rnn_relu_cell(x, h, self.inner.weight_ih, self.inner.weight_hh)

    model = load(write(torch.jit.script(User())))
    assert model.stacks[0].layers[0].cell == "relu"
    assert any(note.startswith("relu was taken for inner: the file says so in code/__torch__/") for note in model.notes)


def test_a_user_s_own_class_is_named(write):
    class Own(nn.GRUCell):
        pass

    model = load(write(torch.jit.script(nn.Sequential(Own(3, 4)))))
    assert model.stacks[0].assumed_class.endswith("Own")
    assert "___torch_mangle" not in model.stacks[0].assumed_class


def test_embedding_children_and_extra_files(write):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, 3)
            self.inner = nn.ModuleDict({"rnn": nn.GRU(3, 4).half()})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner["rnn"](self.words(x).half())[0]

    net = Nested()
    model = load(write(torch.jit.script(net), _extra_files={"notes.txt": b"x" * 100}))
    (stack,) = model.stacks
    assert stack.name == "inner.rnn"
    assert torch.equal(stack.embedding, net.words.weight.detach())
    assert stack.layers[0].weight_hh.dtype == torch.float16
    assert torch.equal(stack.layers[0].weight_hh, net.inner["rnn"].weight_hh_l0)


@pytest.mark.parametrize("freeze", [torch.jit.freeze, torch.jit.optimize_for_inference])
def test_frozen_modules_are_refused(write, refusal, freeze):
    frozen = freeze(torch.jit.script(Model(nn.LSTM(3, 5)).eval()))
    message = refusal(write(frozen))
    assert "TorchScript of a frozen module" in message
    assert "save the module as it was before torch.jit.freeze" in message


def test_what_a_freeze_preserved_is_read(write):
    net = Model(nn.GRU(3, 5)).eval()
    model = load(write(torch.jit.freeze(torch.jit.script(net), preserved_attrs=["rnn"])))
    assert_same_run(model.stacks[0], net.rnn)
    assert any(skipped.name == "constants" for skipped in model.source.skipped)


def test_without_recurrent_layers(write, refusal):
    assert "saw (top level) (weight [2, 3], bias [2])" in refusal(write(torch.jit.script(nn.Linear(3, 2))))


CELL = "__torch__.torch.nn.modules.rnn RNNCell"
WEIGHTS = (
    text("weight_ih") + tensor(storage("0", 2), (1, 1), (1, 1))
    + text("weight_hh") + tensor(storage("0", 2), (1, 1), (1, 1), offset=1)
)  # fmt: skip


def module(*entries, of=CELL):
    return name(of) + EMPTY_TUPLE + NEWOBJ + EMPTY_DICT + MARK + b"".join(entries) + SETITEMS + BUILD


def archive_of(path, data, code=None, **members):
    zip_of(path, data, DATA)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
        for member, content in (code or {}).items():
            archive.writestr(f"archive/code/{member}", content, zipfile.ZIP_DEFLATED)
    return path


HOSTILE = {
    "plain": module(WEIGHTS),
    "a module in itself": name(CELL) + EMPTY_TUPLE + NEWOBJ + b"q\0" + EMPTY_DICT + MARK + WEIGHTS
    + text("me") + b"h\0" + SETITEMS + BUILD,
    "one module a thousand times": module(WEIGHTS, text("a"), module(), b"q\1",
    *(text(f"m{i}") + b"h\1" for i in range(1000))),
    "modules in modules": (name(CELL) + EMPTY_TUPLE + NEWOBJ + EMPTY_DICT + text("child")) * 5000 + module(WEIGHTS)
    + (SETITEM + BUILD) * 5000,
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles(sandbox, tmp_path, case):
    outcome = sandbox(archive_of(tmp_path / "model.pt", whole(HOSTILE[case])))
    if case == "modules in modules":
        assert "no recurrent layer" in outcome["refused"]
    else:
        assert outcome["layers"] == ["rnn"]


@pytest.mark.parametrize("opcode", ["REDUCE", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "BUILD with __setstate__"])
def test_no_call_is_made(sandbox, tmp_path, opcode):
    sentinel = tmp_path / "sentinel"
    attack = calls(f"touch {sentinel}")[opcode]
    sandbox(archive_of(tmp_path / "model.pt", whole(module(WEIGHTS, text("attack"), MARK, attack, b"t"))))
    assert not sentinel.exists()


RNN = "__torch__/torch/nn/modules/rnn.py"
CODE = {
    "too much": {RNN: b"class RNNCell(Module):\n" + b" " * 2**26 + b"torch.rnn_relu_cell("},
    "starts of classes": {RNN: b"class A(\n" * 2**21},
    "no text": {RNN: b"\xff\xfe\0" * 1000},
    "many members": {f"{i}.py": b"x" for i in range(20_000)},
    "names to break lines": {"\x1b[2J\n.py": b"torch.rnn_relu(torch.rnn_tanh("},
}


@pytest.mark.parametrize("case", CODE)
def test_hostile_code(sandbox, tmp_path, case):
    outcome = sandbox(archive_of(tmp_path / "model.pt", whole(module(WEIGHTS)), CODE[case]))
    assert outcome["layers"] == ["rnn"]


def test_code_is_never_compiled(sandbox, tmp_path):
    sentinel = tmp_path / "sentinel"
    code = f"import os\nos.system('touch {sentinel}')\nclass RNNCell(Module):\n  torch.rnn_relu_cell(\n"
    path = archive_of(tmp_path / "model.pt", whole(module(WEIGHTS)), {RNN: code.encode()})
    assert sandbox(path)["layers"] == ["rnn"]
    assert not sentinel.exists()
    assert load(path).stacks[0].layers[0].cell == "relu"
