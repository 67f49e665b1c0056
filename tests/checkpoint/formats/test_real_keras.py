"""Keras and ONNX files that others wrote and ship in packages, against Keras or onnxruntime on the same weights.

pytest -m index tests/checkpoint/formats/test_real_keras.py
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from rnndiag.checkpoint import load
from tests.builders.keras3 import ON_NUMPY_2, h5py, keras, kl, outputs
from tests.builders.keras_files import alone
from tests.builders.onnx_files import by_onnxruntime, states

pytestmark = [pytest.mark.index, ON_NUMPY_2]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Fetch a package and unpack it whole."""

    def fetch(name: str, version: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"{name}=={version}"]
        subprocess.run(command, check=True, capture_output=True)
        (archive,) = folder.iterdir()
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
        return folder

    return fetch


def hard(x):
    """``hard_sigmoid`` of Keras 1 and 2."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def by_keras(path, group, inputs, layer, **settings):
    """The states of a layer of today's Keras with the weights of one group of a file."""
    with h5py.File(path) as file:
        root = file.get("model_weights", file)
        named = [each.decode() if isinstance(each, bytes) else each for each in root[group].attrs["weight_names"]]
        weights = [root[group][name][()] for name in named]
    made = layer(weights[1].shape[0], return_sequences=True, recurrent_activation=hard, **settings)
    made.build((None, None, weights[0].shape[0]))
    made.set_weights(weights[:3])
    return keras.ops.convert_to_numpy(made(inputs))


def noise(width):
    return np.random.default_rng(0).normal(size=(2, 30, width)).astype(np.float32)


def test_chars2vec(packages):
    """Weights alone of Keras 2.2.0, whose default is hard_sigmoid."""
    (path,) = packages("chars2vec", "0.1.7").glob("*/chars2vec/trained_models/eng_50/weights.h5")
    found = alone(load(path))
    for name in ("lstm_1", "lstm_2"):
        inputs = noise(found[name].input_size)
        expected = by_keras(path, name, inputs, kl.LSTM)
        np.testing.assert_allclose(outputs(found[name], inputs), expected, rtol=1e-4, atol=1e-4)


def test_rnnmorph(packages):
    """Its JSON states hard_sigmoid and a class of its own that goes backwards."""
    (path,) = packages("rnnmorph", "0.4.1").glob("*/rnnmorph/models/ru/eval_model.h5")
    model = load(path)
    found = alone(model)
    assert any("eval_model.json next to the file states" in note for note in model.notes)
    for name, backwards in (("LSTM_1_forward", False), ("LSTM_1_backward", True)):
        inputs = noise(found[name].input_size)
        expected = by_keras(path, name, inputs, kl.LSTM, go_backwards=backwards)
        expected = expected[:, ::-1] if backwards else expected
        np.testing.assert_allclose(outputs(found[name], inputs), expected, rtol=1e-4, atol=1e-4)
    assert next(stack for stack in model.stacks if stack.name == "LSTM_1_backward").assumed_class == "ReversedLSTM"


def test_shakkala(packages):
    """Whole models of Keras 2.0 and 2.1: a GRU with the reset gate first, and levels of one stack."""
    folder = packages("shakkala", "1.7") / "shakkala" / "model"
    found = alone(load(folder / "simple_model.h5"))["gru_1"]
    inputs = noise(found.input_size)
    expected = by_keras(folder / "simple_model.h5", "gru_1", inputs, kl.GRU, reset_after=False)
    np.testing.assert_allclose(outputs(found, inputs), expected, rtol=1e-4, atol=1e-4)
    names = [stack.name for stack in load(folder / "second_model6.h5").stacks]
    assert names == ["bidirectional_19", "bidirectional_20 to bidirectional_21"]


@pytest.mark.parametrize(
    ("package", "version", "member", "cells"),
    [
        ("russtress", "0.1.4", "russtress/weights.96.hdf5", {"hard_sigmoid_lstm"}),
        ("ethnicolr", "0.8.1", "ethnicolr/models/nc_voter_reg/lstm/nc_voter_name_lstm.h5", {"hard_sigmoid_lstm"}),
        ("ethnicolr", "0.8.1", "ethnicolr/models/census/lstm/census2010_ln_lstm.h5", {"lstm"}),
        ("sleepecg", "0.6.0", "sleepecg/classifiers/wrn-gru-mesa.zip", {"gru"}),
    ],
)
def test_cells(packages, package, version, member, cells):
    model = load(packages(package, version) / member)
    assert {layer.cell for stack in model.stacks for layer in stack.layers} == cells
    if package == "sleepecg":
        assert [stack.name for stack in model.stacks] == ["bidirectional to bidirectional_1"]


def test_ddddocr(packages):
    """A DynamicQuantizeLSTM, next to onnxruntime's own run of the operator."""
    path = packages("ddddocr", "1.6.1") / "ddddocr" / "common_old.onnx"
    model = load(path)
    (stack,) = model.stacks
    assert any("onnxruntime also rounds the inputs and states" in note for note in model.notes)
    proto = onnx.load(path)
    (node,) = [node for node in proto.graph.node if node.op_type == "DynamicQuantizeLSTM"]
    node.input[5] = node.input[6] = ""
    held = [each for each in proto.graph.initializer if each.name in set(node.input)]
    inputs = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
    outputs_ = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
    del node.output[1:]
    graph = onnx.helper.make_graph([node], "operator", [inputs], [outputs_], held)
    single = path.with_name("operator.onnx")
    onnx.save(onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8), single)
    given = noise(stack.input_size).transpose(1, 0, 2)
    expected = by_onnxruntime(single, {node.input[0]: given})[0]
    assert np.abs(states(stack, given)[0] - expected).max() < 0.1
