"""ONNX operators with other activations, with peepholes, and with quantized weights, against onnxruntime."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from onnx import numpy_helper

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.parsers.onnx.quantized import restored
from tests.builders.onnx_files import (
    H,
    by_onnxruntime,
    graph,
    only_stack,
    operator,
    sequence,
    states,
    weights,
    write,
)

pytest.importorskip("onnxruntime")

BOTH = {"direction": "bidirectional"}
SIXTH = {"activation_alpha": [1 / 6], "activation_beta": [0.5]}


def agrees(path):
    """The only stack of a file, after its states were compared with onnxruntime's, here and by ``--verify``."""
    stack = only_stack(path)
    assert any("those that onnxruntime" in note for note in load(path, Answers(verify=True)).notes)
    assert_allclose(states(stack, sequence())[-1], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)
    return stack


@pytest.mark.parametrize(
    ("kind", "settings", "cell", "gate"),
    [
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "hard_sigmoid_lstm", "hard_sigmoid_fifth"),
        ("LSTM", {"activations": ["hardsigmoid", "tanh", "tanh"], **SIXTH}, "hard_sigmoid_lstm", "hard_sigmoid"),
        ("LSTM", {"activations": ["Sigmoid", "Relu", "Relu"]}, "relu_lstm", "sigmoid"),
        ("LSTM", {"activations": ["HardSigmoid", "Relu", "Relu"], **SIXTH}, "relu_lstm", "hard_sigmoid"),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, "hard_sigmoid_gru", "hard_sigmoid_fifth"),
        (
            "GRU",
            {"activations": ["HardSigmoid", "Tanh"], "linear_before_reset": 1},
            "hard_sigmoid_gru",
            "hard_sigmoid_fifth",
        ),
        ("GRU", {"activations": ["Sigmoid", "Relu"], "linear_before_reset": 1}, "relu_gru", "sigmoid"),
        (
            "LSTM",
            {
                "activations": ["HardSigmoid", "Tanh", "Tanh"] * 2,
                "activation_alpha": [1 / 6, 1 / 6],
                "activation_beta": [0.5, 0.5],
                **BOTH,
            },
            "hard_sigmoid_lstm",
            "hard_sigmoid",
        ),
    ],
)
def test_other_activations(tmp_path, kind, settings, cell, gate):
    count = 2 if "direction" in settings else 1
    path = write(tmp_path / "model.onnx", graph([operator(kind, **settings)], weights(kind, count)))
    stack = agrees(path)
    assert {(layer.cell, layer.form.gate) for layer in stack.layers} == {(cell, gate)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"activation_alpha": [0.3]}, "hardsigmoid(0.3, 0.5), tanh, tanh: expected sigmoid, or hardsigmoid with beta"),
        ({"activation_beta": [0.4]}, "hardsigmoid(0.2, 0.4)"),
        ({"activation_alpha": [0.2, 1 / 6], **BOTH}, "the same in both"),
    ],
)
def test_another_hard_sigmoid_is_refused(tmp_path, refusal, settings, words):
    count = 2 if "direction" in settings else 1
    settings = {"activations": ["HardSigmoid", "Tanh", "Tanh"] * count, **settings}
    body = graph([operator("LSTM", **settings)], weights("LSTM", count))
    assert words in refusal(write(tmp_path / "model.onnx", body))


@pytest.mark.parametrize("directions", [1, 2])
def test_peepholes(tmp_path, directions):
    node = operator(
        inputs=["X", "W", "R", "B", "", "", "", "P"], direction="bidirectional" if directions == 2 else "reverse"
    )
    peepholes = np.random.default_rng(3).normal(size=(directions, 3 * H)).astype(np.float32)
    path = write(tmp_path / "model.onnx", graph([node], weights("LSTM", directions) | {"P": peepholes}))
    stack = agrees(path)
    assert {layer.cell for layer in stack.layers} == {"peephole_lstm"}
    assert torch.equal(stack.layers[0].extra["peephole_output"], torch.from_numpy(peepholes[0, H : 2 * H]))


def quantized(tmp_path, directions=1, per_channel=False, kind="QInt8", levels=1):
    """A model of one LSTM or of two on one another, and what ``quantize_dynamic`` makes of it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    both = {"direction": "bidirectional"} if directions == 2 else {}
    stored = weights("LSTM", directions)
    nodes = [operator(name="/rnn/LSTM", outputs=["Y"], **both)]
    if levels == 2:
        upper = weights("LSTM", directions, inputs=directions * H)
        stored |= {f"{name}1": array + 0.1 for name, array in upper.items()} | {"to": np.array([0, 0, -1])}
        nodes = [
            operator(name="/rnn/LSTM", outputs=["Y0"], **both),
            onnx.helper.make_node("Transpose", ["Y0"], ["Y1"], perm=[0, 2, 1, 3]),
            onnx.helper.make_node("Reshape", ["Y1", "to"], ["X1"]),
            operator(name="/rnn/LSTM_1", inputs=["X1", "W1", "R1", "B1"], outputs=["Y"], **both),
        ]
    path = write(tmp_path / "plain.onnx", graph(nodes, stored))
    target = tmp_path / "model.onnx"
    quantize_dynamic(path, target, per_channel=per_channel, weight_type=getattr(QuantType, kind))
    return path, target


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
def test_a_quantized_lstm(tmp_path, directions, per_channel, kind):
    plain, path = quantized(tmp_path, directions, per_channel, kind)
    model = load(path)
    (stack,) = model.stacks
    assert any("onnxruntime also rounds the inputs and states of each step to 8 bits" in note for note in model.notes)
    assert any("could not be compared with onnxruntime" in note for note in load(path, Answers(verify=True)).notes)
    found = states(stack, sequence())[0]
    rounded = by_onnxruntime(path, {"X": sequence()})[0]
    exact = by_onnxruntime(plain, {"X": sequence()})[0]
    assert np.abs(found - rounded).max() < 0.02  # onnxruntime rounds the inputs and states of each step too
    assert np.abs(found - exact).max() < 0.05
    # The weights themselves: an LSTM of ONNX with the restored weights.
    held = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    own = {
        name: restored(name, held[f"{name}_quantized"], held[f"{name}_scale"], held[f"{name}_zero_point"])
        for name in ("W", "R")
    }
    step = np.abs(own["R"] - weights("LSTM", directions)["R"]).max() / np.abs(held["R_scale"]).max()
    assert 0 < step < 0.51  # half a step of the grid
    both = {"direction": "bidirectional"} if directions == 2 else {}
    again = write(tmp_path / "again.onnx", graph([operator(**both)], own | {"B": held["B"]}))
    assert_allclose(found, by_onnxruntime(again, {"X": sequence()})[0], atol=1e-6)


def test_quantized_levels_are_one_stack(tmp_path):
    plain, path = quantized(tmp_path, 2, levels=2)
    stack = only_stack(path)
    assert [layer.name for layer in stack.layers] == ["rnn.l0", "rnn.l0.reverse", "rnn.l1", "rnn.l1.reverse"]
    exact = by_onnxruntime(plain, {"X": sequence()})[0]
    assert np.abs(states(stack, sequence())[1] - exact).max() < 0.05


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("W_scale", np.ones(3, np.float32), "its W [1, 3, 20] has scales [3]"),
        ("R_zero_point", np.zeros(1, np.uint8), "its R is int8 with scales in float32 and zero points in uint8"),
        ("W_quantized", np.zeros((1, 20), np.int8), "has scales [1] and zero points [1]"),
        ("W_quantized", np.zeros((1, 20, 3), np.int8), "do not fit together"),
        ("W_quantized", np.zeros((1, 3, 20), np.float32), "its W is float32"),
    ],
)
def test_quantized_weights_that_do_not_fit(tmp_path, refusal, name, value, words):
    _, path = quantized(tmp_path)
    proto = onnx.load(path)
    (index,) = [i for i, each in enumerate(proto.graph.initializer) if each.name == name]
    proto.graph.initializer[index].CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    assert words in refusal(path)


def test_scales_that_are_missing(tmp_path, refusal):
    _, path = quantized(tmp_path)
    proto = onnx.load(path)
    del proto.graph.node[0].input[8:]
    onnx.save(proto, path)
    assert "its scales or zero points are missing" in refusal(path)
