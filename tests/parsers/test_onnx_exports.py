"""What torch.onnx.export writes: the states are those of onnxruntime on the same file, the names PyTorch's own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from rnndiag.checkpoint import load
from tests.builders.onnx_files import by_onnxruntime, sequence, states

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the older exporter, and of what both call
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # the shapes that it fixes are meant
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of attempts that torch.export makes and takes back
]

D, H = 3, 5


class Around(nn.Module):
    """A recurrent module under a path, and something above it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"rnn": inner})
        self.head = nn.Linear(inner.hidden_size * (1 + inner.bidirectional), 2)

    def forward(self, x: torch.Tensor) -> Any:
        outputs = self.encoder["rnn"](x)[0]
        return outputs, self.head(outputs)


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    """Write a module that reads ``[T, B, D]``, or any other example, and give the file's path."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    def written(module: nn.Module, *example: torch.Tensor, dynamo: bool = False, **options: Any) -> Path:
        path = tmp_path / "model.onnx"
        example = example or (torch.zeros(4, 2, D),)
        torch.manual_seed(0)
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -0.7, 0.7)
        options.setdefault("verbose", False)
        torch.onnx.export(module.eval(), example, path, dynamo=dynamo, input_names=["x"], **options)
        return path

    return written


def agrees(path: Path, stack: Any, inputs: np.ndarray, batch_first: bool = False) -> None:
    given = inputs.transpose(1, 0, 2) if batch_first else inputs
    outputs = by_onnxruntime(path, {"x": given})[0]
    if batch_first:
        outputs = outputs.transpose(1, 0, 2)
    top = states(stack, inputs)[-1]  # [T, directions, B, H]
    assert_allclose(top.transpose(0, 2, 1, 3).reshape(outputs.shape), outputs, atol=1e-6)


CASES = [
    pytest.param(nn.LSTM, {"num_layers": 2, "bidirectional": True}, id="lstm-2-both"),
    pytest.param(nn.LSTM, {"num_layers": 3, "batch_first": True, "dropout": 0.5}, id="lstm-3-batch-first"),
    pytest.param(nn.GRU, {"num_layers": 2, "bidirectional": True, "batch_first": True}, id="gru-2-both-batch-first"),
    pytest.param(nn.GRU, {"bias": False}, id="gru-no-bias"),
    pytest.param(nn.RNN, {"nonlinearity": "relu", "num_layers": 2}, id="relu-2"),
    pytest.param(nn.RNN, {"nonlinearity": "tanh", "bidirectional": True}, id="tanh-both"),
]


def names(options: dict[str, Any]) -> list[str]:
    return [
        f"l{level}{end}" for level in range(options.get("num_layers", 1))
        for end in ([""] + [".reverse"] * options.get("bidirectional", False))
    ]  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"opset_version": 17},
        {"opset_version": 9},
        {"opset_version": 13, "do_constant_folding": False},
        {"opset_version": 17, "dynamic_axes": {"x": {0: "a", 1: "b"}}},
        {"opset_version": 11, "do_constant_folding": False, "dynamic_axes": {"x": {0: "a", 1: "b"}}},
    ],
    ids=["17", "9", "13-unfolded", "17-dynamic", "11-unfolded-dynamic"],
)
@pytest.mark.parametrize(("module", "options"), CASES)
def test_the_older_exporter(export, module, options, settings):
    path = export(Around(module(D, H, **options)), **settings)
    loaded = load(path)
    (stack,) = loaded.stacks
    unfolded = "do_constant_folding" in settings
    assert stack.name == ("encoder.rnn" if unfolded else "rnn")  # it leaves a ModuleDict out of node names
    assert [layer.name for layer in stack.layers] == [f"{stack.name}.{name}" for name in names(options)]
    assert loaded.source.skipped == ()
    steps = (7, 3) if "dynamic_axes" in settings else (4, 2)
    if options.get("batch_first") and "dynamic_axes" not in settings:
        steps = (2, 4)
    agrees(path, stack, sequence(*steps), options.get("batch_first", False))


@pytest.mark.parametrize(("module", "options"), CASES[:4])
def test_the_newer_exporter(export, module, options):
    path = export(Around(module(D, H, **options)), dynamo=True)
    (stack,) = load(path).stacks
    assert [layer.name for layer in stack.layers] == [f"encoder.rnn.{name}" for name in names(options)]
    batch_first = options.get("batch_first", False)
    agrees(path, stack, sequence(*((2, 4) if batch_first else (4, 2))), batch_first)


def test_the_newer_exporter_with_open_sizes(export):
    """Its reshapes are then computed from shapes."""
    shapes = {0: torch.export.Dim("a", min=2), 1: torch.export.Dim("b", min=2)}
    path = export(Around(nn.LSTM(D, H, 2, bidirectional=True)), dynamo=True, dynamic_shapes=(shapes,))
    assert {"Shape", "Mul"} <= {node.op_type for node in onnx.load(path).graph.node}
    (stack,) = load(path).stacks
    assert len(stack.levels) == 2
    agrees(path, stack, sequence(4, 2))  # no other size: a later reshape of the file is for these


def test_the_module_itself_is_named_by_its_kind(export):
    for dynamo in (False, True):
        (stack,) = load(export(nn.GRU(D, H), dynamo=dynamo)).stacks
        assert (stack.name, [layer.name for layer in stack.layers]) == ("gru", ["l0"])


class Seq2Seq(nn.Module):
    """Two modules, the one above the other, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, D)
        self.first = nn.LSTM(D, H, batch_first=True)
        self.second = nn.LSTM(H, H, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(self.first(self.embedding(x))[0])[0]


@pytest.mark.parametrize("dynamo", [False, True])
def test_modules_on_one_another_stay_apart(export, dynamo):
    """As in a state_dict: PyTorch has two modules there."""
    module = Seq2Seq()
    path = export(module, torch.zeros(2, 4, dtype=torch.long), dynamo=dynamo)
    loaded = load(path)
    assert [stack.name for stack in loaded.stacks] == ["first", "second"]
    assert torch.equal(loaded.stacks[0].embedding, module.embedding.weight)
    assert loaded.stacks[1].embedding is None
    for stack in loaded.stacks:
        own = getattr(module, stack.name)
        assert torch.equal(stack.layers[0].weight_hh, own.weight_hh_l0)


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_cell_written_out_is_named(export, refusal, dynamo):
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(D, H)

        def forward(self, x: torch.Tensor) -> Any:
            h = c = x.new_zeros(x.shape[1], H)
            for step in x:
                h, c = self.cell(step, (h, c))
            return h

    message = refusal(export(Loop(), dynamo=dynamo))
    assert "expected an operator RNN, GRU or LSTM, saw cell (recurrent, but it seems to be written out" in message
    assert message.count("written out") == 1
    assert "state_dict" in message


def test_a_loop_is_named(export, refusal):
    """Scripted, a loop over a cell becomes a Loop."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_input = nn.Linear(D, H)
            self.of_state = nn.Linear(H, H)

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            for step in range(x.shape[0]):
                h = torch.tanh(self.of_input(x[step]) + self.of_state(h))
            return h

    path = export(torch.jit.script(Loop()), torch.zeros(4, 2, D), torch.zeros(2, H), opset_version=17)
    assert "Loop" in {node.op_type for node in onnx.load(path).graph.node}
    assert "(recurrent, but it seems to be written out as elementary operators (the body of a Loop" in refusal(path)


def test_the_newer_exporter_takes_an_elman_net_apart(export, refusal):
    message = refusal(export(Around(nn.RNN(D, H)), dynamo=True))
    assert "encoder.rnn (recurrent, but it seems to be written out" in message
    assert "dynamo=False" in message


def test_a_projection_that_the_newer_exporter_loses(export, refusal):
    """It writes W, R and B for 3 units where the module has 5; onnxruntime refuses the file as well."""
    path = export(nn.LSTM(D, H, proj_size=3), dynamo=True)
    assert "its initial state is [1, 2, 5] and its weights have 3 hidden units" in refusal(path)
    with pytest.raises(Exception, match="must have shape"):
        by_onnxruntime(path, {"x": sequence(4, 2)})
