"""``--verify``: the states of ONNX layers against those of onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rnndiag.checkpoint import load, verification
from rnndiag.checkpoint.formats import parser_process
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.errors import CheckpointError
from rnndiag.parsers.origin import OriginRuns, Place
from tests.builders.command_line import Cli
from tests.builders.swapped_gates import findings_of, swapped

VERIFY = Answers(verify=True)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four operators: a GRU in PyTorch's form, one in the other form, an LSTM in both directions, a ReLU RNN."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    rng, size, width = np.random.default_rng(0), 4, 3
    nodes, stored, outputs = [], [], []
    forms = {
        "gru": ("GRU", 3, {"linear_before_reset": 1}),
        "first": ("GRU", 3, {"linear_before_reset": 0}),
        "lstm": ("LSTM", 4, {"direction": "bidirectional"}),
        "rnn": ("RNN", 1, {"activations": ["Relu"], "direction": "reverse"}),
    }
    for name, (kind, gates, settings) in forms.items():
        count = 2 if settings.get("direction") == "bidirectional" else 1
        shapes = {"W": (count, gates * size, width), "R": (count, gates * size, size), "B": (count, 2 * gates * size)}
        stored += [
            onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 2, f"{name}.{part}")
            for part, shape in shapes.items()
        ]
        inputs = ["x", *(f"{name}.{part}" for part in shapes)]
        nodes.append(
            onnx.helper.make_node(kind, inputs, [f"{name}.y"], f"/{name}/{kind}", hidden_size=size, **settings)
        )
        outputs.append(onnx.helper.make_tensor_value_info(f"{name}.y", 1, None))
    x = onnx.helper.make_tensor_value_info("x", 1, ["t", "b", width])
    graph = onnx.helper.make_graph(nodes, "net", [x], outputs, stored)
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_onnx_layers_agree_with_onnxruntime(onnx_file: Path) -> None:
    plain, checked = load(onnx_file), load(onnx_file, VERIFY)
    assert [stack.name for stack in checked.stacks] == [stack.name for stack in plain.stacks]
    assert len(checked.stacks) == 4
    (note,) = set(checked.notes) - set(plain.notes)
    assert note.startswith("the states of gru, first, lstm, rnn are those that onnxruntime ")


def test_a_layer_with_other_states_is_skipped_by_name(onnx_file: Path) -> None:
    findings = findings_of("onnx", onnx_file)
    checked = verification.verified(swapped(findings), "onnx", onnx_file)
    assert [stack.name for stack in checked.stacks] == [stack.name for stack in findings.stacks[1:]]
    skipped = checked.skipped[-1]
    assert (skipped.name, skipped.recurrent) == (findings.stacks[0].name, True)
    assert "its states are not those that onnxruntime " in skipped.reason
    assert "please report this file" in skipped.reason


def test_a_layer_that_the_library_does_not_run_is_noted(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = parser_process.origin_runs("onnx", onnx_file, package="onnxruntime")
    place = Place("gru", 0, reverse=False)
    failing = OriginRuns(runs.library, dict(runs.inputs), dict(runs.outputs), {place: "it has no kernel"})
    del failing.outputs[place]
    monkeypatch.setattr(verification, "origin_runs", lambda *arguments, **options: failing)
    checked = load(onnx_file, VERIFY)
    assert len(checked.stacks) == 4
    assert any("gru could not be compared with onnxruntime" in note and "no kernel" in note for note in checked.notes)


def test_a_quantized_operator_is_not_compared(onnx_file: Path, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    quantization.quantize_dynamic(onnx_file, tmp_path / "small.onnx")
    checked = load(tmp_path / "small.onnx", VERIFY)
    assert len(checked.stacks) == 4
    assert any("lstm could not be compared" in note and "rounds the inputs" in note for note in checked.notes)


def test_the_library_must_be_there(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError(name='onnxruntime')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with pytest.raises(CheckpointError, match="--verify takes onnxruntime, which is not installed: pip install onnxr"):
        load(onnx_file, VERIFY)
    assert load(onnx_file).stacks


def test_files_without_a_library_of_their_own(tmp_path: Path) -> None:
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "net.pt")
    assert "nothing was compared for torch" in load(tmp_path / "net.pt", VERIFY).notes[-1]


def test_the_option_and_the_config(cli: Cli, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ("check", str(onnx_file), "--no-treat", "--T", "10", "--batch", "2", "--fail-on", "never")
    words = "are those that onnxruntime"
    assert words not in " ".join(cli(*quick).out.split())
    assert words in " ".join(cli(*quick, "--verify").out.split())
    Path("rnndiag.yaml").write_text("verify: true\n", encoding="utf-8")
    assert words in " ".join(cli(*quick).out.split())
    assert words not in " ".join(cli(*quick, "--no-verify").out.split())
