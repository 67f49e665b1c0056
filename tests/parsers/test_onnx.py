"""ONNX's own operators, in every form they have: the states are those of onnxruntime on the same file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rnndiag.checkpoint import load
from tests.builders.onnx_files import (
    GATES,
    D,
    H,
    by_onnxruntime,
    graph,
    model,
    only_stack,
    operator,
    sequence,
    states,
    weights,
    write,
)

pytest.importorskip("onnxruntime")

KINDS = pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
DIRECTIONS = pytest.mark.parametrize(("direction", "count"), [("forward", 1), ("reverse", 1), ("bidirectional", 2)])


def settings_of(kind, **more):
    """PyTorch's GRU is the one with linear_before_reset."""
    return ({"linear_before_reset": 1} if kind == "GRU" else {}) | more


@KINDS
@DIRECTIONS
@pytest.mark.parametrize("bias", [True, False])
def test_states_are_those_of_onnxruntime(tmp_path, kind, direction, count, bias):
    node = operator(kind, inputs=["X", "W", "R"] + ["B"] * bias, **settings_of(kind, direction=direction))
    path = write(tmp_path / "model.onnx", graph([node], weights(kind, count)))
    stack = only_stack(path)
    assert [layer.direction for layer in stack.layers] == (["forward", "reverse"] if count == 2 else [direction])
    assert (stack.layers[0].bias_ih is not None) == bias
    (expected,) = by_onnxruntime(path, {"X": sequence()})
    assert_allclose(states(stack, sequence())[0], expected, atol=1e-6)


def test_a_reverse_layer_is_named_so(tmp_path):
    path = write(tmp_path / "model.onnx", graph([operator(direction="reverse")], weights("LSTM")))
    assert [layer.name for layer in only_stack(path).layers] == ["layer.l0.reverse"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_the_nonlinearity_of_an_rnn_is_stated(tmp_path, activation, count):
    node = operator("RNN", activations=[activation] * count, direction=["forward", "bidirectional"][count - 1])
    path = write(tmp_path / "model.onnx", graph([node], weights("RNN", count)))
    stack = only_stack(path)
    assert {(layer.cell, layer.nonlinearity_assumed) for layer in stack.layers} == {(activation.lower(), False)}
    assert_allclose(states(stack, sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


def test_the_activations_of_pytorch_may_be_spelled_out(tmp_path):
    node = operator(activations=["Sigmoid", "Tanh", "Tanh"], clip=float("inf"))
    path = write(tmp_path / "model.onnx", graph([node], weights("LSTM")))
    assert_allclose(states(only_stack(path), sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


@KINDS
@pytest.mark.parametrize("layout", [0, 1])
def test_double_precision_and_layout(tmp_path, kind, layout):
    """onnxruntime has neither; onnx.reference is the format's own."""
    node = operator(kind, layout=layout, **settings_of(kind))
    body = graph([node], weights(kind, dtype=np.float64), dtype=TensorProto.DOUBLE)
    path = write(tmp_path / "model.onnx", body)
    inputs = sequence(dtype=np.float64)
    given = inputs.transpose(1, 0, 2) if layout else inputs
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"X": given})
    stack = only_stack(path)
    assert stack.layers[0].weight_hh.element_size() == 8
    found = states(stack, inputs)[0]
    assert_allclose(found.transpose(2, 0, 1, 3) if layout else found, expected, atol=1e-12)


@DIRECTIONS
def test_a_gru_with_the_reset_gate_before_the_product(tmp_path, direction, count):
    """The recurrence is computed here, from the parameters that were read."""
    path = write(tmp_path / "model.onnx", graph([operator("GRU", direction=direction)], weights("GRU", count)))
    stack = only_stack(path)
    assert not any(layer.reset_after for layer in stack.layers)
    (expected,) = by_onnxruntime(path, {"X": sequence()})
    for i, layer in enumerate(stack.layers):
        order = slice(None, None, -1 if layer.direction == "reverse" else 1)
        found = reset_before(layer, sequence()[order])[order]
        assert_allclose(found, expected[:, i], atol=1e-6)


def reset_before(layer, inputs):
    """``n = tanh(W_in x + b_in + W_hn (r*h) + b_hn)``: Cho et al. 2014."""
    p = {name: value.double().numpy() for name, value in layer.parameters.items()}
    rows = 2 * layer.hidden_size
    h, found = np.zeros((inputs.shape[1], layer.hidden_size)), []
    for x in inputs.astype(np.float64):
        a = x @ p["weight_ih"].T + p["bias_ih"] + p["bias_hh"]
        r, z = np.split(1 / (1 + np.exp(-(a[:, :rows] + h @ p["weight_hh"][:rows].T))), 2, axis=1)
        n = np.tanh(a[:, rows:] + (r * h) @ p["weight_hh"][rows:].T)
        h = (1 - z) * n + z * h
        found.append(h)
    return np.stack(found)


def test_a_gru_with_the_reset_gate_before_the_product_is_run_so(tmp_path):
    path = write(tmp_path / "model.onnx", graph([operator("GRU")], weights("GRU")))
    assert_allclose(states(only_stack(path), sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_the_order_of_gates_is_noted(tmp_path, kind):
    path = write(tmp_path / "model.onnx", graph([operator(kind)], weights(kind)))
    (note,) = load(path).notes
    assert note.startswith(f"ONNX holds the gates of a{'n' * (kind == 'LSTM')} {kind} as")


def test_half_precision(tmp_path):
    body = graph([operator()], weights("LSTM", dtype=np.float16), dtype=TensorProto.FLOAT16)
    path = write(tmp_path / "model.onnx", body)
    stack = only_stack(path)
    assert stack.layers[0].weight_hh.element_size() == 2
    (expected,) = by_onnxruntime(path, {"X": sequence(dtype=np.float16)})
    whole = [layer.weight_ih.float().numpy() for layer in stack.layers]
    assert np.isin(whole[0], weights("LSTM", dtype=np.float16)["W"].astype(np.float32)).all()
    from dataclasses import replace

    import torch

    wide = replace(stack, levels=tuple(tuple(each.to(torch.float32) for each in level) for level in stack.levels))
    assert_allclose(states(wide, sequence())[0], expected.astype(np.float32), atol=2e-3)


@pytest.mark.parametrize("field", ["raw", "typed"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_one_by_one_or_in_a_block(tmp_path, dtype, field):
    stored = []
    for name, array in weights("RNN", dtype=dtype).items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        values = array.tobytes() if field == "raw" else array.ravel().tolist()
        stored.append(helper.make_tensor(name, kind, array.shape, values, raw=field == "raw"))
    path = write(tmp_path / "model.onnx", graph([operator("RNN")], stored))
    assert np.array_equal(only_stack(path).layers[0].weight_ih.numpy(), weights("RNN", dtype=dtype)["W"][0])


def test_zero_peepholes_are_none(tmp_path):
    node = operator(inputs=["X", "W", "R", "B", "", "", "", "P"])
    path = write(tmp_path / "model.onnx", graph([node], weights("LSTM") | {"P": np.zeros((1, 3 * H), np.float32)}))
    assert_allclose(states(only_stack(path), sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("LSTM", {"clip": 3.0}, "it clips its preactivations at 3"),
        ("LSTM", {"input_forget": 1}, "input_forget=1"),
        ("LSTM", {"activations": ["Sigmoid", "Elu", "Elu"]}, "activations are sigmoid, elu, elu: expected sigmoid, or"),
        ("GRU", {"activations": ["Tanh", "Tanh"]}, "activations are tanh, tanh: expected sigmoid, or hardsigmoid"),
        ("RNN", {"activations": ["Affine"]}, "activations are affine: expected tanh, or relu"),
        ("RNN", {"activations": ["Tanh", "Tanh"]}, "activations are tanh, tanh: expected 1 in each direction"),
        ("LSTM", {"hidden_size": 4}, "it says hidden_size=4, but its weights have 5 hidden units"),
        ("LSTM", {"direction": "sideways"}, "its direction is b'sideways'"),
        ("LSTM", {"direction": "bidirectional"}, "do not fit together: expected W [2, 4*H, D]"),
        ("LSTM", {"inputs": ["X", "W", "R", "B", "", "", "", "P"]}, "do not fit: expected P [1, 15], got [1, 14]"),
        ("LSTM", {"inputs": ["X", "W", "R", "W"]}, "its bias does not fit: expected B [1, 40]"),
        ("LSTM", {"inputs": ["X", "R", "W", "B"]}, "do not fit together"),
        ("LSTM", {"inputs": ["X", "W"]}, "its weights are missing"),
        ("LSTM", {"inputs": ["X", "W", "X", "B"]}, "its weights are not in the file: 'X' is an input"),
        ("LSTM", {"inputs": ["X", "W", "R", "B", "", "P"]}, "its initial state is [1, 14] and its weights have 5"),
        ("LSTM", {"inputs": ["X", "W", "R", "D"]}, "its weights are float32, float64: expected one of"),
        ("LSTM", {"inputs": ["X", "W", "R", "I"]}, "its weights are float32, int64: expected one of"),
    ],
)
def test_what_pytorch_has_not_is_passed_over(tmp_path, refusal, kind, settings, words):
    stored = weights(kind) | {"P": np.ones((1, 3 * H - 1), np.float32)}
    stored |= {"D": stored["B"].astype(np.float64), "I": stored["B"].astype(np.int64)}
    body = graph([operator(kind, **settings), operator(kind, "sound", outputs=["Z"])], stored)
    path = write(tmp_path / "model.onnx", body)
    assert [stack.name for stack in load(path).stacks] == ["sound"]
    (skipped,) = load(path).source.skipped
    assert skipped.name == "layer"
    assert skipped.reason.startswith("recurrent, but ")
    assert words in skipped.reason
    del body.node[1]
    assert words in refusal(write(path, body))


def test_directions_with_different_nonlinearities(tmp_path, refusal):
    node = operator("RNN", activations=["Tanh", "Relu"], direction="bidirectional")
    message = refusal(write(tmp_path / "model.onnx", graph([node], weights("RNN", 2))))
    assert "its activations are tanh, relu: expected 1 in each direction, the same in both" in message


def test_a_constant_of_another_kind(tmp_path, refusal):
    node = helper.make_node("Constant", [], ["W"], value_string="x")
    stored = {name: array for name, array in weights("LSTM").items() if name != "W"}
    assert "a Constant with value_string" in refusal(write(tmp_path / "m.onnx", graph([node, operator()], stored)))


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "COMPLEX64", "STRING", "INT4"])
def test_other_types_are_named(tmp_path, refusal, kind):
    tensor = onnx.TensorProto(name="W", data_type=TensorProto.DataType.Value(kind), dims=[1, 4 * H, D])
    stored = [numpy_helper.from_array(a, n) for n, a in weights("LSTM").items() if n != "W"]
    path = write(tmp_path / "model.onnx", graph([operator()], [*stored, tensor]))
    assert f"its weights are {kind.lower()}: expected float16" in refusal(path)


def test_gate_blocks_of_each_kind():
    """What the tests above rest on: all blocks of their weights differ."""
    for kind, gates in GATES.items():
        blocks = weights(kind)["R"].reshape(gates, -1)
        assert len(np.unique(blocks, axis=0)) == gates


def test_old_opsets(tmp_path):
    body = graph([operator("GRU", linear_before_reset=1)], weights("GRU"))
    path = write(tmp_path / "model.onnx", body, opset=7)
    assert_allclose(states(only_stack(path), sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


def test_an_embedding_is_found_by_what_the_operator_reads(tmp_path):
    table = np.random.default_rng(0).normal(size=(11, D)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["X"], perm=[1, 0, 2]),
        operator(),
    ]
    proto = model(graph(nodes, weights("LSTM") | {"table": table}, inputs=[]))
    proto.graph.input.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"]))
    onnx.save(proto, tmp_path / "model.onnx")
    loaded = load(tmp_path / "model.onnx")
    assert np.array_equal(loaded.stacks[0].embedding.numpy(), table)
    assert "layer.embedding is what the model calls table" in loaded.notes
