"""Weights in files beside an ONNX model: read where they belong, and from nowhere else."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto

from rnndiag.checkpoint import load
from tests.builders.onnx_files import (
    by_onnxruntime,
    graph,
    model,
    only_stack,
    operator,
    sequence,
    states,
    weights,
    with_external_weights,
)

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("together", [True, False], ids=["one-file", "a-file-each"])
def test_weights_beside_the_model(tmp_path, together):
    path = tmp_path / "model.onnx"
    location = {"location": "model.bin"} if together else {}
    proto = model(graph([operator()], weights("LSTM")))
    onnx.save(proto, path, save_as_external_data=True, all_tensors_to_one_file=together, size_threshold=0, **location)
    assert path.stat().st_size < 600
    assert_allclose(states(only_stack(path), sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


def test_only_what_the_operators_need_is_read(tmp_path):
    body = graph([operator()], weights("LSTM") | {"other": np.zeros(1000, np.float32)})
    tensor = next(tensor for tensor in body.initializer if tensor.name == "other")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="nowhere.bin")
    (tmp_path / "model.onnx").write_bytes(model(body).SerializeToString())
    assert load(tmp_path / "model.onnx").stacks


@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "sub/weights.bin", "link.bin"])
def test_places_inside_the_folder(tmp_path, location):
    path = with_external_weights(tmp_path / "model.onnx", location=location)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes())
    (tmp_path / "link.bin").symlink_to("sub/weights.bin")
    assert load(path).stacks


def test_an_offset_and_a_length(tmp_path):
    path = with_external_weights(tmp_path / "model.onnx", location="shifted.bin", offset="12", length="240")
    (tmp_path / "shifted.bin").write_bytes(b"x" * 12 + (tmp_path / "weights.bin").read_bytes() + b"y")
    assert np.array_equal(load(path).stacks[0].layers[0].weight_ih[:5].numpy(), weights("LSTM")["W"][0, :5])


@pytest.mark.parametrize(
    "location", ["../weights.bin", "sub/../../weights.bin", "/etc/passwd", "C:\\weights.bin", "..\\weights.bin", ""]
)
def test_places_outside_the_folder(tmp_path, sandbox, location):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = with_external_weights(folder / "model.onnx", location=location)
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    assert "only files in the model's own folder are read" in sandbox(path)["refused"]


@pytest.mark.parametrize("through", ["file", "folder"])
def test_links_that_lead_outside(tmp_path, sandbox, through):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = with_external_weights(
        folder / "model.onnx", location="link.bin" if through == "file" else "link/weights.bin"
    )
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    if through == "file":
        (folder / "link.bin").symlink_to("../weights.bin")
    else:
        (folder / "link").symlink_to(tmp_path)
    assert "a link that leads out of the model's own folder" in sandbox(path)["refused"]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "nowhere.bin"}, "which is not beside the model: copy both"),
        ({"location": "x\0y"}, "which is not beside the model: copy both"),
        ({"location": "x" * 5000}, "which is not beside the model: copy both"),
        ({"location": "."}, "only files in the model's own folder are read"),
        ({"location": "folder"}, "is not a regular one"),
        ({"location": "pipe"}, "is not a regular one"),
        ({"location": "loop"}, "which is not beside the model: copy both"),
        ({"location": "weights.bin", "offset": "1"}, "is cut short: bytes 1 to 241 are needed, it has 240"),
        ({"location": "weights.bin", "offset": str(2**62)}, "is cut short"),
        ({"location": "weights.bin", "offset": "-1"}, "is malformed"),
        ({"location": "weights.bin", "offset": "9" * 5000}, "is malformed"),
        ({"location": "weights.bin", "length": "12"}, "expected 240 bytes, got 12"),
        ({"location": "weights.bin", "length": str(2**62)}, f"expected 240 bytes, got {2**62}"),
    ],
)
def test_lies_about_places(tmp_path, sandbox, entries, words):
    path = with_external_weights(tmp_path / "model.onnx", **entries)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert words in sandbox(path)["refused"]


def test_a_shape_as_large_as_a_sparse_file(tmp_path, sandbox):
    """A file of holes costs nothing to make; it is not read."""
    path = with_external_weights(tmp_path / "model.onnx", location="sparse.bin")
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(1 << 40)
    proto = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "W")
    tensor.dims[:] = [1, 20, 1 << 32]
    path.write_bytes(proto.SerializeToString())
    outcome = sandbox(path)
    assert "its weights are more than 1 GiB" in outcome["refused"]
    assert outcome["mib"] < 100
