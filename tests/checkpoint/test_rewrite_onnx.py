"""Changed models written back into ONNX files, and what onnx and onnxruntime make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write.write_back import rewrite
from rnndiag.errors import CheckpointError
from tests.checkpoint.onnx_files import (
    by_onnxruntime,
    constant,
    graph,
    only_stack,
    operator,
    sequence,
    states,
    weights,
    write,
)
from tests.checkpoint.treated import layers_of, treated, written

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # of the older exporter
    "ignore::torch.jit.TracerWarning",
    "ignore::UserWarning",
)


def stored(path):
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def stripped(path):
    """All of a model but the numbers of its tensors."""
    proto = onnx.load(path)
    for each in proto.graph.initializer:
        each.ClearField("raw_data")
        each.ClearField("float_data")
        each.ClearField("double_data")
    return proto.SerializeToString(deterministic=True)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["RNN", "GRU", "LSTM"]),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    has_bias=st.booleans(),
    raw=st.booleans(),
)
def test_operators(tmp_path_factory, kind, direction, dtype, has_bias, raw):
    folder = tmp_path_factory.mktemp("model")
    held = weights(kind, 2 if direction == "bidirectional" else 1, dtype)
    if not has_bias:
        del held["B"]
    held["other"] = np.arange(4, dtype=dtype)
    inputs = ["X", "W", "R", *(["B"] if has_bias else [])]
    types = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
    raw = raw or dtype is np.float16
    tensors = [
        numpy_helper.from_array(a, n) if raw else helper.make_tensor(n, types[dtype], a.shape, a.ravel())
        for n, a in held.items()
    ]
    node = operator(kind, direction=direction, inputs=inputs)
    write(folder / "a.onnx", graph([node], tensors, dtype=types[dtype]))
    changed = written(folder / "a.onnx", folder / "b.onnx")
    assert stripped(folder / "a.onnx") == stripped(folder / "b.onnx")
    np.testing.assert_array_equal(stored(folder / "b.onnx")["other"], held["other"])
    np.testing.assert_array_equal(stored(folder / "b.onnx")["W"], held["W"])
    result = layers_of(load(folder / "b.onnx"))
    for name, layer in changed.items():
        for own, value in layer.parameters.items():
            assert torch.equal(getattr(result[name], own), value.to(getattr(result[name], own).dtype))
    if dtype is np.float32:
        (ran,) = by_onnxruntime(folder / "b.onnx", {"X": sequence()})
        np.testing.assert_allclose(ran, states(only_stack(folder / "b.onnx"), sequence())[0], rtol=1e-4, atol=1e-5)


def test_constants_and_what_rearranges_them(tmp_path):
    held = weights("GRU")
    nodes = [
        constant("w", held["W"]),
        helper.make_node("Transpose", ["r"], ["R"], perm=[0, 2, 1]),
        helper.make_node("Identity", ["w"], ["W"]),
        operator("GRU"),
    ]
    r = np.ascontiguousarray(held["R"].transpose(0, 2, 1))
    write(tmp_path / "a.onnx", graph(nodes, {"r": r, "B": held["B"]}))
    written(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert not np.array_equal(stored(tmp_path / "b.onnx")["r"], r)


def test_export(tmp_path):
    module = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    pytest.importorskip("onnxscript")
    torch.onnx.export(module, (torch.randn(5, 2, 3),), tmp_path / "a.onnx", dynamo=False)
    changed = written(tmp_path / "a.onnx", tmp_path / "b.onnx")
    for name, parameter in module.named_parameters():
        own, level, *reverse = name.rpartition("_l")[0], name.rpartition("_l")[2][0], *["reverse"] * ("rev" in name)
        (layer,) = (v for k, v in changed.items() if k.endswith(".".join([f"l{level}", *reverse])))
        parameter.data.copy_(getattr(layer, own))
    inputs = torch.randn(5, 2, 3)
    name = onnx.load(tmp_path / "b.onnx").graph.input[0].name
    ran = by_onnxruntime(tmp_path / "b.onnx", {name: inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(ran[0]), module(inputs)[0].detach(), rtol=1e-4, atol=1e-5)


def refused(path, words):
    changed = {name: treated(layer) for name, layer in layers_of(load(path)).items()}
    with pytest.raises(CheckpointError, match=words):
        rewrite(path, path.with_name("new.onnx"), changed)
    assert not path.with_name("new.onnx").exists()


def test_weights_beside_the_model(tmp_path):
    write(tmp_path / "a.onnx", graph([operator()], weights("LSTM")))
    proto = onnx.load(tmp_path / "a.onnx")
    onnx.save(proto, tmp_path / "b.onnx", save_as_external_data=True, location="b.bin", size_threshold=0)
    refused(tmp_path / "b.onnx", "in a file beside the model")


def test_quantised(tmp_path):
    held = weights("RNN")
    q = (held["R"] * 50).round().astype(np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["q", "scale"], ["R"]), operator("RNN")]
    write(tmp_path / "a.onnx", graph(nodes, {"W": held["W"], "B": held["B"], "q": q, "scale": np.float32(0.02)}))
    refused(tmp_path / "a.onnx", "computed from those in the file|not only rearranged")


def test_weights_of_zero_for_peepholes(tmp_path):
    held = weights("LSTM") | {"P": np.zeros((1, 15), np.float32)}
    node = operator(inputs=["X", "W", "R", "B", "", "", "", "P"])
    write(tmp_path / "a.onnx", graph([node], held))
    written(tmp_path / "a.onnx", tmp_path / "b.onnx")


def test_a_bias_that_is_not_there(tmp_path):
    held = weights("RNN")
    del held["B"]
    write(tmp_path / "a.onnx", graph([operator("RNN", inputs=["X", "W", "R"])], held))
    (layer,) = layers_of(load(tmp_path / "a.onnx")).values()
    new = replace(layer, bias_ih=torch.ones(5), bias_hh=torch.ones(5))
    with pytest.raises(CheckpointError, match="bias_ih has no place in the file"):
        rewrite(tmp_path / "a.onnx", tmp_path / "b.onnx", {layer.name: new})
