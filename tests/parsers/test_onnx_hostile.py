"""ONNX files that are damaged, lie, or are made to harm."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import format_of
from tests.builders.onnx_files import graph, model, operator, weights, write


def refused(sandbox, path):
    """The refusal of a file."""
    outcome = sandbox(path)
    assert "\n" not in outcome["refused"]
    return outcome["refused"]


def lying(path, tensor):
    stored = [numpy_helper.from_array(array, name) for name, array in weights("LSTM").items() if name != tensor.name]
    return write(path, graph([operator()], [*stored, tensor]))


@pytest.mark.parametrize(
    ("dims", "data", "words"),
    [
        ([1, 20, 3], b"\0" * 239, "[1, 20, 3]: expected 240 bytes, got 239"),
        ([1, 20, 3], b"", "expected 240 bytes, got 0"),
        ([1 << 40, 20, 3], b"\0" * 240, "expected 263882790666240 bytes, got 240"),
        ([1 << 62, 1 << 62, 1 << 62], b"\0" * 240, "bytes, got 240"),
        ([-1, -20, 12], b"\0" * 240, "the shape of tensor 'W' is malformed"),
        ([1] * 1000, b"\0" * 4, "the shape of tensor 'W' is malformed"),
        ([0, 20, 3], b"", "do not fit together"),
        ([], b"\0" * 4, "do not fit together"),
        ([1, 20, 3], None, "[1, 20, 3]: expected 60 numbers, got 0"),
    ],
)
def test_lies_about_shapes(tmp_path, sandbox, dims, data, words):
    tensor = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    assert words in refused(sandbox, lying(tmp_path / "model.onnx", tensor))


def test_a_type_that_does_not_exist(tmp_path, sandbox):
    tensor = TensorProto(name="W", data_type=99, dims=[1, 20, 3], raw_data=b"\0" * 240)
    assert "its weights are type 99: expected float16" in refused(sandbox, lying(tmp_path / "model.onnx", tensor))


def made_by(path, *nodes, **stored):
    """A model whose W is the result of nodes."""
    held = {name: array for name, array in weights("LSTM").items() if name != "W"}
    return write(path, graph([*nodes, operator()], held | stored))


def node(kind, inputs, outputs, **more):
    return helper.make_node(kind, inputs.split(), outputs.split(), **more)


HUGE = np.array([1 << 20, 1 << 20])


@pytest.mark.parametrize(
    ("nodes", "stored", "words"),
    [
        ([node("ConstantOfShape", "s", "W")], {"s": HUGE}, "blown up to 1,099,511,627,776 numbers"),
        ([node("ConstantOfShape", "s", "W")], {"s": np.array([-1, 20, 3])}, "more than the file holds"),
        ([node("Expand", "x s", "W")], {"x": np.float32(1), "s": HUGE}, "blown up to"),
        ([node("Expand", "x s", "W")], {"x": np.float32(1), "s": np.full(100, 2)}, "is malformed"),
        ([node("Tile", "x s", "W")], {"x": np.float32([1]), "s": HUGE}, "are computed by Tile, not only rearranged"),
        (
            [node("Gather", "x i", "W")],
            {"x": np.zeros((1, 5000), np.float32), "i": np.zeros(5000, np.int64)},
            "blown up to 25,000,000 numbers",
        ),
        (
            [node("Concat", "x x", "x0", axis=0)]
            + [node("Concat", f"x{i} x{i}", f"x{i + 1}", axis=0) for i in range(60)]
            + [node("Identity", "x60", "W")],
            {"x": np.zeros(100, np.float32)},
            "blown up to",
        ),
        (
            [node("Concat", "x x", "x0", axis=0)]
            + [node("Identity", f"x{i}", f"x{i + 1}") for i in range(200)]
            + [node("Identity", "x200", "W")],
            {"x": np.zeros(100, np.float32)},
            "more than 100 operators away",
        ),
        ([node("Mul", "x x", "W")], {"x": np.zeros((1, 20, 3), np.float32)}, "computed from others"),
        ([node("Identity", "W", "W")], {}, "computed from themselves"),
        ([node("Concat", "a a", "W", axis=0), node("Concat", "W W", "a", axis=0)], {}, "computed from themselves"),
        ([node("Identity", "", "W")], {}, "cannot be put together: Identity: input 0 is missing"),
        ([node("Transpose", "x", "W", perm=[7, 7])], {"x": np.zeros((1, 3))}, "cannot be put together: Transpose"),
        ([node("Reshape", "x s", "W")], {"x": np.zeros(3), "s": np.array([-1, -1])}, "put together: Reshape"),
        ([node("Squeeze", "x", "W", axes=[5])], {"x": np.zeros(3)}, "cannot be put together: Squeeze"),
        ([node("Split", "x", "W y")], {"x": np.zeros(0)}, "do not fit together"),
        ([node("Split", "x s", "W y")], {"x": np.zeros(3), "s": np.array([-1, 4])}, "put together: Split"),
        ([node("Unsqueeze", "x", "W", axes=[1 << 40])], {"x": np.zeros(3)}, "cannot be put together: Unsqueeze"),
        ([node("Cast", "x", "W")], {"x": np.zeros(3)}, "its weights are undefined"),
        ([node("LSTM", "X W R B", "W")], {}, "are computed by LSTM, not only rearranged"),
        ([node("Constant", "", "W")], {}, "a Constant with no value"),
        ([node("Identity", "nothing", "W")], {}, "not in the file: 'nothing' is an input, or is nowhere"),
    ],
)
def test_constants_made_to_harm(tmp_path, sandbox, nodes, stored, words):
    stored = {name: np.asarray(array) for name, array in stored.items()}
    assert words in refused(sandbox, made_by(tmp_path / "model.onnx", *nodes, **stored))


def test_work_without_end_is_refused(tmp_path, sandbox):
    """Each operator puts its own weights together, by a hundred steps."""
    steps = [node("Transpose", f"x{i}", f"x{i + 1}") for i in range(98)]
    nodes = [node("Expand", "x s", "x0"), *steps, node("Transpose", "x98", "W")]
    nodes += [operator(name=f"n{i}", inputs=["X", "W", "R", "B"], hidden_size=i) for i in range(4000)]
    stored = weights("LSTM") | {"x": np.zeros((1, 1, 1), np.float32), "s": np.array([100, 100, 100])}
    del stored["W"]
    message = refused(sandbox, write(tmp_path / "model.onnx", graph(nodes, stored)))
    assert "take more steps to put together" in message


def within(inner, depth):
    """The bytes of a graph in an If in a graph in an If, so deep that the library cannot write them."""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, inner) + b"\xa0\x01\x05"
        inner = field(1, field(4, b"If") + field(5, attribute))
    return onnx.ModelProto(ir_version=8).SerializeToString() + field(7, inner)


def field(number, content):
    size, length = [], len(content)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


@pytest.mark.parametrize(("depth", "outcome"), [(25, "layers"), (60, "refused"), (10_000, "refused")])
def test_graphs_within_graphs(tmp_path, sandbox, depth, outcome):
    path = tmp_path / "model.onnx"
    path.write_bytes(within(graph([operator()], weights("LSTM")).SerializeToString(), depth))
    assert outcome in sandbox(path)


@pytest.mark.parametrize(
    ("calls", "words"), [(1, "nested more than 32 deep"), (3, "more than 20,000 graphs and calls")]
)
def test_functions_that_call_functions(tmp_path, sandbox, calls, words):
    """Three calls each of the next, 31 deep, are 617 billion."""
    depth = 60 if calls == 1 else 31
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own", f"f{i}", ["x"], ["y"], [helper.make_node(f"f{i + 1}", ["x"], ["y"], domain="own")] * calls, opsets
        )
        for i in range(depth)
    ]
    functions.append(helper.make_function("own", f"f{depth}", ["x"], ["y"], [node("Identity", "x", "y")], opsets))
    top = graph([helper.make_node("f0", ["X"], ["Y"], domain="own")])
    path = tmp_path / "model.onnx"
    path.write_bytes(model(top, opset_imports=opsets, functions=functions).SerializeToString())
    assert words in refused(sandbox, path)


def test_a_function_that_calls_itself(tmp_path, sandbox):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    call = helper.make_node("f", ["x"], ["y"], domain="own")
    function = helper.make_function("own", "f", ["x"], ["y"], [call], opsets)
    path = tmp_path / "model.onnx"
    top = graph([helper.make_node("f", ["X"], ["Y"], domain="own")])
    path.write_bytes(model(top, opset_imports=opsets, functions=[function]).SerializeToString())
    assert "nested more than 32 deep" in refused(sandbox, path)


@pytest.mark.parametrize(
    ("count", "kind", "words"),
    [
        (1_000_000, "Identity", "it takes more memory than any sound file of its size"),
        (300_000, "Identity", "more than 250,000 nodes"),
        (240_000, "Split", "no recurrent layer that can be measured"),
        (240_000, "LSTM", "the model has more than 5000"),
    ],
)
def test_nodes_without_number(tmp_path, sandbox, count, kind, words):
    one = field(1, helper.make_node(kind, ["x"], ["y"]).SerializeToString())
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString() + field(7, one * count))
    assert words in refused(sandbox, path)


def test_other_formats_of_the_library_are_not_taken_by_name(tmp_path):
    """onnx.load goes by the end of the name."""
    for end in ("json", "textproto", "onnxtxt"):
        assert load(write(tmp_path / "model.onnx", graph([operator()], weights("LSTM"))).rename(tmp_path / f"m.{end}"))


def test_without_the_library(tmp_path, refusal, monkeypatch):
    path = write(tmp_path / "model.onnx", graph([operator()], weights("LSTM")))
    assert format_of(path).name == "onnx"
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(\"No module named 'onnx'\", name='onnx')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    assert refusal(path).endswith("takes onnx, which is not installed: pip install 'rnndiag[onnx]'")
