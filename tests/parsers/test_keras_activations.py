"""Activations that a configuration states, and the defaults of the version of Keras where only weights are there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rnndiag.checkpoint import load
from rnndiag.parsers.keras.versions import Version
from tests.builders.keras3 import CLOSE, INPUTS, ON_NUMPY_2, SEQUENCES, keras, kl, outputs, run, saved, sequential
from tests.builders.keras_files import h5py

pytestmark = ON_NUMPY_2

HARD = {"recurrent_activation": "hard_sigmoid", **SEQUENCES}
LAYERS = {
    "hard lstm": (lambda: kl.LSTM(5, name="enc", **HARD), "hard_sigmoid_lstm"),
    "hard gru": (lambda: kl.GRU(5, name="enc", **HARD), "hard_sigmoid_gru"),
    "hard gru, reset before": (lambda: kl.GRU(5, reset_after=False, name="enc", **HARD), "hard_sigmoid_gru"),
    "relu lstm": (lambda: kl.LSTM(5, activation="relu", name="enc", **SEQUENCES), "relu_lstm"),
    "relu gru": (lambda: kl.GRU(5, activation="relu", name="enc", **SEQUENCES), "relu_gru"),
    "relu lstm, hard": (lambda: kl.LSTM(5, activation="relu", name="enc", **HARD), "relu_lstm"),
    "backwards": (lambda: kl.LSTM(5, go_backwards=True, name="enc", **HARD), "hard_sigmoid_lstm"),
    "both ways": (lambda: kl.Bidirectional(kl.GRU(5, **HARD), name="enc"), "hard_sigmoid_gru"),
    "a cell": (
        lambda: kl.RNN(kl.LSTMCell(5, recurrent_activation="hard_sigmoid", dtype="float64"), name="enc", **SEQUENCES),
        "hard_sigmoid_lstm",
    ),
}


@pytest.mark.parametrize("form", ["model.keras", "model.h5"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_states_are_those_of_keras_3(tmp_path, kind, form):
    make, cell = LAYERS[kind]
    layer = make()
    model = load(saved(tmp_path, sequential(layer), form))
    (stack,) = model.stacks
    assert {each.cell for each in stack.layers} == {cell}
    expected = run(layer, INPUTS)
    np.testing.assert_allclose(outputs(stack, INPUTS), expected[:, ::-1] if kind == "backwards" else expected, **CLOSE)
    said = f"the gates of enc are hard_sigmoid, clip(x/6 + 1/2, 0, 1) in Keras {keras.__version__}"
    assert (said in model.notes) == (stack.layers[0].form.gate == "hard_sigmoid")


@pytest.mark.parametrize(
    ("text", "gate", "hard", "reset_after"),
    [
        ("1.2.2", "hard_sigmoid_fifth", "hard_sigmoid_fifth", False),
        ("2.1.6", "hard_sigmoid_fifth", "hard_sigmoid_fifth", False),
        ("2.2.5", "hard_sigmoid_fifth", "hard_sigmoid_fifth", False),
        ("2.1.6-tf", "hard_sigmoid_fifth", "hard_sigmoid_fifth", False),
        ("2.3.1", "sigmoid", "hard_sigmoid_fifth", False),
        ("2.3.0-tf", "sigmoid", "hard_sigmoid_fifth", True),
        ("2.2.4-tf", "sigmoid", "hard_sigmoid_fifth", True),
        ("2.4.0", "sigmoid", "hard_sigmoid_fifth", True),
        ("2.12.0", "sigmoid", "hard_sigmoid_fifth", True),
        ("3.0.5", "sigmoid", "hard_sigmoid", True),
        ("", "sigmoid", "hard_sigmoid_fifth", True),
        ("unknown", "sigmoid", "hard_sigmoid_fifth", True),
    ],
)
def test_what_a_version_computes(text, gate, hard, reset_after):
    version = Version(text)
    assert (version.gate, version.hard_sigmoid, version.reset_after) == (gate, hard, reset_after)
    assert version.is_undecided == (text == "2.2.4-tf")


def of_version(path, version, layer):
    """Weights alone of a layer of Keras 3, as another version wrote them."""
    saved(path.parent, sequential(layer), "source.h5")
    with h5py.File(path.with_name("source.h5")) as source, h5py.File(path, "w") as target:
        target.attrs["layer_names"] = source["model_weights"].attrs["layer_names"]
        if version:
            target.attrs["keras_version"] = version
        source.copy(source["model_weights/enc"], target, "enc")
    return path


@pytest.mark.parametrize(
    ("version", "layer", "cell"),
    [
        ("2.2.0", kl.LSTM, "hard_sigmoid_lstm"),
        ("2.1.6-tf", kl.LSTM, "hard_sigmoid_lstm"),
        ("2.3.0", kl.LSTM, "lstm"),
        ("2.2.4-tf", kl.LSTM, "lstm"),
        ("", kl.LSTM, "lstm"),
        ("2.2.4", kl.GRU, "hard_sigmoid_gru"),
        ("2.2.4-tf", kl.GRU, "gru"),
        ("2.12.0", kl.GRU, "gru"),
    ],
)
def test_weights_alone_have_the_defaults_of_their_version(tmp_path, version, layer, cell):
    model = load(of_version(tmp_path / "weights.h5", version, layer(5, name="enc", **SEQUENCES)))
    (found,) = model.stacks[0].layers
    gate = "hard_sigmoid" if "hard" in cell else "sigmoid"
    assert (found.cell, found.form.gate) == (cell, "hard_sigmoid_fifth" if "hard" in cell else "sigmoid")
    assert any(f"activation tanh, recurrent_activation {gate}, no go_backwards" in note for note in model.notes)
    undecided = version == "2.2.4-tf" and layer is kl.LSTM
    assert any("both write the version 2.2.4-tf" in note for note in model.notes) == undecided


def test_a_gru_that_only_tensorflow_1_builds_by_default(tmp_path):
    layer = kl.GRU(5, reset_after=False, name="enc", **SEQUENCES)
    model = load(of_version(tmp_path / "weights.h5", "2.2.4-tf", layer))
    assert model.stacks[0].layers[0].cell == "hard_sigmoid_gru"


def test_a_version_that_is_not_stated(tmp_path):
    path = saved(tmp_path, sequential(kl.LSTM(5, name="enc", **HARD)), "model.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["keras_version"], file["model_weights"].attrs["keras_version"]
    model = load(path)
    assert model.stacks[0].layers[0].form.gate == "hard_sigmoid_fifth"
    assert any("does not state its version of Keras, and Keras 2 was assumed" in note for note in model.notes)


def test_units_that_are_not_those_of_the_weights(tmp_path, refusal):
    path = saved(tmp_path, sequential(kl.LSTM(5, name="enc", **SEQUENCES)), "model.h5")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1]["config"]["units"] = 7
        file.attrs["model_config"] = json.dumps(config)
    assert "the configuration states 7 units, the weights have 5" in refusal(path)
