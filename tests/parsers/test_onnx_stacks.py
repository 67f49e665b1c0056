"""Which operators of an ONNX model are levels of one module, and what modules are called."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from onnx import helper

from rnndiag.checkpoint import load
from tests.builders.onnx_files import (
    H,
    by_onnxruntime,
    constant,
    graph,
    names,
    only_stack,
    operator,
    sequence,
    states,
    weights,
    write,
)

pytest.importorskip("onnxruntime")

LEVELS = pytest.mark.parametrize(
    ("directions", "between"),
    [
        (1, [("Squeeze", {"axes": [1]})]),
        (1, [("Transpose", {"perm": [0, 2, 1, 3]}), ("Reshape", {"to": [0, 0, -1]})]),
        (2, [("Transpose", {"perm": [0, 2, 1, 3]}), ("Reshape", {"to": [0, 0, -1]})]),
        (2, [("Transpose", {"perm": [0, 2, 1, 3]}), ("Dropout", {}), ("Reshape", {"to": [7, 2, 2 * H]})]),
        (2, [("Transpose", {"perm": [0, 2, 1, 3]}), ("Identity", {}), ("Reshape", {"to": [7, -1, 2 * H]})]),
        (2, "sides"),
        (2, "picked"),
    ],
    ids=["squeeze", "one", "two", "fixed", "half-fixed", "sides", "picked"],
)


def between_levels(steps, source="Y0", target="X1"):
    """Nodes from the output of the level below to the input of the level above; opset 11."""
    if steps == "sides":  # each direction cut out, then put side by side
        return [
            helper.make_node("Split", [source], ["f", "r"], axis=1),
            helper.make_node("Squeeze", ["f"], ["f3"], axes=[1]),
            helper.make_node("Squeeze", ["r"], ["r3"], axes=[1]),
            helper.make_node("Concat", ["f3", "r3"], [target], axis=2),
        ]
    if steps == "picked":
        return [
            constant("0", np.array(0)),
            constant("1", np.array(1)),
            helper.make_node("Gather", [source, "0"], ["f3"], axis=1),
            helper.make_node("Gather", [source, "1"], ["r3"], axis=1),
            helper.make_node("Concat", ["f3", "r3"], [target], axis=2),
        ]
    nodes = []
    for i, (kind, settings) in enumerate(steps):
        output = target if i == len(steps) - 1 else f"{target}_{i}"
        inputs = [source]
        if "to" in settings:
            nodes.append(constant(f"{output}_to", np.array(settings["to"])))
            inputs, settings = [source, f"{output}_to"], {}
        nodes.append(helper.make_node(kind, inputs, [output], **settings))
        source = output
    return nodes


def two_levels(directions, between, first="LSTM_0", second="LSTM_1"):
    both = {"direction": "bidirectional"} if directions == 2 else {}
    upper = weights("LSTM", directions, inputs=directions * H)
    stored = weights("LSTM", directions) | {f"{name}1": array + 0.1 for name, array in upper.items()}
    nodes = [
        operator(name=first, outputs=["Y0"], **both),
        *between_levels(between),
        operator(name=second, inputs=["X1", "W1", "R1", "B1"], outputs=["Y"], **both),
    ]
    return graph(nodes, stored, outputs=["Y", "Y0"])


@LEVELS
def test_operators_on_one_another_are_levels(tmp_path, directions, between):
    path = write(tmp_path / "model.onnx", two_levels(directions, between), opset=11)
    stack = only_stack(path)
    assert [len(level) for level in stack.levels] == [directions] * 2
    assert "each of LSTM_0, LSTM_1 reads the one before, so they were taken as levels of one module" in load(path).notes
    top, below = by_onnxruntime(path, {"X": sequence()})
    found = states(stack, sequence())
    assert_allclose(found[0], below, atol=1e-6)
    assert_allclose(found[1], top, atol=1e-6)


@pytest.mark.parametrize(
    ("directions", "between"),
    [
        (1, [("Squeeze", {"axes": [1]}), ("Transpose", {"perm": [1, 0, 2]})]),
        (1, [("Squeeze", {"axes": [1]}), ("Relu", {})]),
        (2, [("Transpose", {"perm": [0, 2, 3, 1]}), ("Reshape", {"to": [0, 0, -1]})]),
        (2, [("Reshape", {"to": [0, 2, -1]})]),
    ],
    ids=["time-and-batch", "relu", "interleaved", "mixed"],
)
def test_operators_on_one_another_by_another_way_stay_apart(tmp_path, directions, between):
    """Run as levels of one module they would compute something else."""
    path = write(tmp_path / "model.onnx", two_levels(directions, between), opset=11)
    by_onnxruntime(path, {"X": sequence()})
    assert [stack.name for stack in load(path).stacks] == ["LSTM_0", "LSTM_1"]


@pytest.mark.parametrize("swapped", [False, True])
def test_directions_side_by_side_in_their_order(tmp_path, swapped):
    body = two_levels(2, "sides")
    node = next(node for node in body.node if node.op_type == "Concat")
    if swapped:
        node.input[:] = reversed(node.input)
    assert len(load(write(tmp_path / "model.onnx", body, opset=11)).stacks) == 1 + swapped


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("/rnn/LSTM", "/rnn/LSTM_1", ["rnn.l0", "rnn.l1"]),
        ("/enc/LSTM", "/dec/LSTM", ["enc.l0", "dec.l0"]),
        ("/a/b/LSTM", "LSTM_1", ["a.b.l0", "a.b.l1"]),
        ("LSTM_0", "", ["LSTM_0.l0", "LSTM_0.l1"]),
        ("", "", ["Y0.l0", "Y0.l1"]),
        ("StatefulPartitionedCall/net/lstm/PartitionedCall/LSTM", "x/LSTM", ["net.lstm.l0", "x.l0"]),
        ("\x1b[2J\n", "", ["\\x1b[2J\\n.l0", "\\x1b[2J\\n.l1"]),
    ],
)
def test_names(tmp_path, first, second, expected):
    body = two_levels(1, [("Squeeze", {"axes": [1]})], first, second)
    assert names(write(tmp_path / "model.onnx", body, opset=11)) == expected


def test_equal_names_are_told_apart(tmp_path):
    stored = weights("LSTM") | {"R1": weights("LSTM")["R"] + 1, "R2": weights("LSTM")["R"] + 2}
    nodes = [
        operator(name="/rnn/LSTM", inputs=["X", "W", r, "B"], outputs=[f"Y{i}"])
        for i, r in enumerate(["R", "R1", "R2"])
    ]
    nodes.append(operator(name="/rnn#2/LSTM", inputs=["X", "W", "R", ""], outputs=["Y3"]))
    path = write(tmp_path / "model.onnx", graph(nodes, stored, outputs=["Y0", "Y1", "Y2", "Y3"]))
    assert names(path) == ["rnn.l0", "rnn#2.l0", "rnn#3.l0", "rnn#2#2.l0"]


def test_the_path_that_tf2onnx_leaves_beside_the_operator(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["X0"], ["net/enc/transpose:0"], "net/enc/transpose", perm=[1, 0, 2]),
        operator(name="LSTM__12", inputs=["net/enc/transpose:0", "W", "R", "B"], outputs=["LSTM__12:0"]),
        helper.make_node("Squeeze", ["LSTM__12:0", "one"], ["Squeeze__14:0"], "Squeeze__14"),
        helper.make_node("Transpose", ["Squeeze__14:0"], ["Y"], "net/enc/PartitionedCall/transpose_1", perm=[1, 0, 2]),
    ]
    body = graph(nodes, weights("LSTM") | {"one": np.array([1])}, inputs=["X0"])
    assert names(write(tmp_path / "model.onnx", body)) == ["net.enc.l0"]
    nodes[3].name = "net/dense/MatMul"  # another layer's
    assert names(write(tmp_path / "model.onnx", graph(nodes, body.initializer, inputs=["X0"]))) == ["LSTM__12.l0"]


def test_operators_in_a_circle_are_no_levels(tmp_path):
    """Such a model cannot be run; each of its operators can."""
    body = two_levels(1, [("Squeeze", {"axes": [1]})])
    body.node.append(helper.make_node("Squeeze", ["Y"], ["X"], axes=[1]))
    body.initializer[0].CopyFrom(body.initializer[3])
    body.initializer[0].name = "W"
    path = write(tmp_path / "model.onnx", body, opset=11)
    assert sorted(names(path)) == ["LSTM_0.l0", "LSTM_0.l1"]


def test_an_output_that_two_operators_read_has_none_above(tmp_path):
    body = two_levels(1, [("Squeeze", {"axes": [1]})])
    body.node.append(operator(name="LSTM_2", inputs=["X1", "W1", "R1", "B"], outputs=["Z"]))
    assert names(write(tmp_path / "model.onnx", body, opset=11)) == ["LSTM_0.l0", "LSTM_1.l0", "LSTM_2.l0"]
