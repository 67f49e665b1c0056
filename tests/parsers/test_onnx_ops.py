"""Each operator that may stand between a stored tensor and its use computes what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from rnndiag.errors import UnfitError
from rnndiag.parsers.onnx.constants import Budget, Values
from rnndiag.parsers.onnx.graph import Graphs
from rnndiag.parsers.onnx.ops import OPERATIONS
from rnndiag.parsers.onnx.tensors import Tensors
from tests.builders.onnx_files import by_onnxruntime, graph, model

pytest.importorskip("onnxruntime")

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WIDE = np.iinfo(np.int64)


def both(folder, kind, stored, opset, outputs=1, **settings):
    """What a node makes of constants, here and by onnxruntime."""
    names = [f"y{i}" for i in range(outputs)]
    body = graph([helper.make_node(kind, list(stored), names, **settings)], stored, inputs=[], outputs=names)
    for each in body.output:
        each.ClearField("type")
    path = folder / "model.onnx"
    onnx.save(model(body, opset=opset), path)
    scope = Graphs(onnx.load(path)).scopes[0]
    values = Values(Budget(Tensors(path)))
    return [values.of(scope, name).array for name in names], by_onnxruntime(path, {}, names)


CASES = [
    ("Identity", 13, {}, {}),
    ("Cast", 13, {}, {"to": TensorProto.DOUBLE}),
    ("Cast", 13, {}, {"to": TensorProto.FLOAT16}),
    ("Cast", 13, {}, {"to": TensorProto.INT64}),
    ("Unsqueeze", 11, {}, {"axes": [0, 2]}),
    ("Unsqueeze", 13, {"axes": [-1, 0]}, {}),
    ("Squeeze", 11, {"x": X[:1, :, :1]}, {"axes": [0]}),
    ("Squeeze", 13, {"x": X[:1, :, :1], "axes": [-1]}, {}),
    ("Squeeze", 13, {"x": X[:1, :, :1]}, {}),
    ("Reshape", 13, {"to": [0, -1]}, {}),
    ("Reshape", 13, {"to": [4, 0, 2]}, {}),
    ("Reshape", 14, {"x": X[:, :0], "to": [0, 7]}, {"allowzero": 1}),
    ("Flatten", 13, {}, {}),
    ("Flatten", 13, {}, {"axis": 0}),
    ("Flatten", 13, {}, {"axis": -1}),
    ("Transpose", 13, {}, {}),
    ("Transpose", 13, {}, {"perm": [1, 2, 0]}),
    ("Slice", 9, {}, {"starts": [0, -2], "ends": [1, 100]}),
    ("Slice", 9, {}, {"starts": [1], "ends": [3], "axes": [-1]}),
    ("Concat", 13, {"x": X, "z": X[:, :1]}, {"axis": 1}),
    ("Concat", 13, {"x": X, "z": X}, {"axis": -1}),
    ("Gather", 13, {"i": [[2, -1]]}, {"axis": 1}),
    ("Gather", 13, {"i": 1}, {}),
    ("Expand", 13, {"x": X[:, :1], "to": [5, 1, 3, 1]}, {}),
    ("ConstantOfShape", 13, {"x": [2, 3]}, {}),
    ("ConstantOfShape", 13, {"x": [2]}, {"value": helper.make_tensor("v", TensorProto.DOUBLE, [1], [1.5])}),
    ("Shape", 13, {}, {}),
    ("Shape", 15, {}, {"start": 1}),
    ("Shape", 15, {}, {"start": -3, "end": -1}),
    ("DequantizeLinear", 10, {"x": np.int8(X - 9), "s": np.float32(0.3), "z": np.int8(2)}, {}),
    ("DequantizeLinear", 13, {"x": np.uint8(X), "s": np.float32([1, 2, 3]), "z": np.uint8([0, 9, 200])}, {}),
    ("DequantizeLinear", 13, {"x": np.int8(X), "s": np.float32([1, 2])}, {"axis": -3}),
    ("Add", 14, {"x": [7, -7], "z": [2, 3]}, {}),
    ("Sub", 14, {"x": [7, -7], "z": 2}, {}),
    ("Mul", 14, {"x": [7, -7], "z": [2]}, {}),
    ("Div", 14, {"x": [7, -7, 8], "z": [2]}, {}),
]


@pytest.mark.parametrize(("kind", "opset", "stored", "settings"), CASES)
def test_results_are_those_of_onnxruntime(tmp_path, kind, opset, stored, settings):
    given = {"x": X} | stored if kind != "Concat" else stored
    arrays = {name: np.asarray(value) for name, value in given.items()}
    (found,), (expected,) = both(tmp_path, kind, arrays, opset, **settings)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize(
    ("opset", "outputs", "given", "settings"),
    [
        (11, 2, {}, {"axis": 0}),
        (11, 2, {}, {"axis": 2, "split": [1, 3]}),
        (13, 3, {"sizes": np.array([1, 0, 2])}, {"axis": 1}),
        (18, 3, {}, {"axis": -1, "num_outputs": 3}),
    ],
)
def test_pieces_are_those_of_onnxruntime(tmp_path, opset, outputs, given, settings):
    found, expected = both(tmp_path, "Split", {"x": X} | given, opset, outputs, **settings)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_every_operator_is_held():
    assert {kind for kind, *_ in CASES} | {"Split", "Dropout"} == OPERATIONS.keys()


# Not an end of INT64_MAX backwards: the format leaves it open, and onnxruntime takes it for INT64_MIN.
PLACES = st.integers(-8, 8) | st.sampled_from([WIDE.min, WIDE.max])


@settings(max_examples=150, deadline=None)
@given(
    axes=st.permutations([0, -2, 2]),
    places=st.lists(
        st.tuples(PLACES, PLACES, st.sampled_from([1, 2, 3, -1, -2, WIDE.max])).filter(
            lambda place: place[1] < WIDE.max or place[2] > 0
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_slices_are_those_of_onnxruntime(tmp_path_factory, axes, places):
    starts, ends, steps = (np.array(each) for each in zip(*places, strict=True))
    stored = {"x": X, "starts": starts, "ends": ends, "axes": np.array(axes[: len(places)]), "steps": steps}
    (found,), (expected,) = both(tmp_path_factory.mktemp("slice"), "Slice", stored, 13)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_weights_quantised_in_blocks_are_not_read(tmp_path):
    stored = {"x": np.int8(X), "s": np.ones((2, 3, 2), np.float32)}
    with pytest.raises(UnfitError, match="quantised in blocks"):
        both(tmp_path, "DequantizeLinear", stored, 21, axis=2, block_size=2)


@pytest.mark.parametrize("scale", [[[1.0, 2.0, 3.0]], [1.0, 2.0], []])
def test_a_scale_that_does_not_fit_is_not_stretched(tmp_path, scale):
    with pytest.raises(UnfitError):
        both(tmp_path, "DequantizeLinear", {"x": np.int8(X), "s": np.float32(scale)}, 13)


def test_a_zero_point_of_another_shape_is_not_stretched(tmp_path):
    """The result would have the size of a product of two inputs."""
    stored = {
        "x": np.zeros((64, 1), np.int8),
        "scale": np.array(0.5, np.float32),
        "zero": np.zeros((1, 64), np.int8),
    }
    body = graph([helper.make_node("DequantizeLinear", list(stored), ["y"])], stored, inputs=[], outputs=["y"])
    path = tmp_path / "model.onnx"
    onnx.save(model(body, opset=13), path)
    scope = Graphs(onnx.load(path)).scopes[0]
    with pytest.raises(UnfitError, match="expected a zero point for each of 1 scales, got 64"):
        Values(Budget(Tensors(path))).of(scope, "y")
