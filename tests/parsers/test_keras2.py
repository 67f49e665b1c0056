"""Models that Keras 2 saved (``keras2/write.py``), to the last digit of what it computed on them in float64."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.trajectory import run_stack
from tests.builders.keras_files import alone

h5py = pytest.importorskip("h5py")

FOLDER = Path(__file__).parent / "keras2"
EXACT = {"rtol": 1e-11, "atol": 1e-12}


def computed(name="outputs.npz"):
    return dict(np.load(FOLDER / name))


INPUTS = computed()["inputs"]


def outputs(stack):
    runs = run_stack(stack, torch.from_numpy(INPUTS).transpose(0, 1))[-1]
    hidden = [run.hidden.flip(0) if run.layer.direction == "reverse" else run.hidden for run in runs]
    return torch.cat(hidden, -1).transpose(0, 1).numpy()


def forward(stack):
    """The stack without regard to what feeds it, which runs from the end of the sequence to its start."""
    ((layer,),) = stack.levels
    return replace(stack, levels=((replace(layer, direction="forward"),),))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("net.h5", "outputs.npz"), ("net.keras", "outputs.npz"), ("first.keras", "outputs_first.npz")],
)
def test_every_layer_of_a_whole_model(name, expected):
    model = load(FOLDER / name)
    expected = computed(expected)
    assert [stack.name for stack in model.stacks] == ["both", "before", "inner.frozen to bare"]
    found = alone(model)
    for own, stack in found.items():
        if own in expected:
            states = outputs(stack) if own != "hard" else outputs(forward(stack))
            np.testing.assert_allclose(states, expected[own], **EXACT)
    assert list(found) == ["both", "before", "inner.frozen", "inner.free", "stack", "back", "hard", "bare"]
    assert {layer.cell for layer in found["back"].layers} == {"relu"}
    # What reads a layer that goes backwards runs against the sequence too, until it goes backwards again.
    assert [found[name].layers[0].direction for name in ("back", "hard", "bare")] == ["reverse"] * 3
    table = model.stacks[0].embedding
    assert table.shape == (9, 3)
    assert torch.equal(found["before"].embedding, table)
    assert "the gates of hard are hard_sigmoid, clip(x/5 + 1/2, 0, 1) in Keras 2" in "; ".join(model.notes)
    assert any("(reads flat, TimeDistributed), before (reads both, Bidirectional)" in note for note in model.notes)
    assert "the directions of both are merged by sum in the model; they were measured side by side" in model.notes


def test_weights_alone_in_the_older_layout():
    model = load(FOLDER / "net_weights.h5", Answers(nonlinearity="relu"))
    by_name = {stack.name: stack for stack in model.stacks}
    assert set(by_name) == {"both", "before", "inner.frozen", "inner.free", "stack", "back", "hard", "bare"}
    expected = computed()
    for name in ("both", "before", "inner.frozen", "inner.free", "stack"):
        np.testing.assert_allclose(outputs(by_name[name]), expected[name], **EXACT)
    assert any(note.startswith("no configuration tells of both, before,") for note in model.notes)


@pytest.mark.parametrize("archive", ["net.keras", "first.keras"])
def test_weights_alone_in_the_newer_layout(tmp_path, archive):
    """Keras 2 writes no names there, so the layers go by their classes and places."""
    path = tmp_path / "model.weights.h5"
    path.write_bytes(zipfile.ZipFile(FOLDER / archive).read("model.weights.h5"))
    found = {stack.name: outputs(stack) for stack in load(path).stacks if stack.input_size == 3}
    expected = computed("outputs.npz" if archive == "net.keras" else "outputs_first.npz")
    for own, name in {
        "both": "bidirectional", "inner.frozen": "sequential.gru", "inner.free": "sequential.lstm", "stack": "rnn",
    }.items():  # fmt: skip
        np.testing.assert_allclose(found[name], expected[own], **EXACT)


def test_layers_of_cudnn():
    model = load(FOLDER / "cudnn.h5")
    (stack,) = model.stacks
    np.testing.assert_allclose(outputs(alone(model)["lstm"]), computed()["cudnn.lstm"], **EXACT)
    np.testing.assert_allclose(outputs(stack), computed()["cudnn.gru"], **EXACT)
    assert "cuDNN's own layout of weights was converted in lstm, gru" in model.notes


def renamed(path, change):
    """``net.h5`` with weights under other names, as other versions of Keras, and TensorFlow 1, had them."""
    with h5py.File(FOLDER / "net.h5") as source, h5py.File(path, "w") as target:
        target.attrs.update(source.attrs)
        held = source["model_weights"]
        group = target.create_group("model_weights")
        layers = list(held.attrs["layer_names"])
        group.attrs["layer_names0"], group.attrs["layer_names1"] = layers[:4], layers[4:]
        for layer in layers:
            names = [str(name) for name in held[layer].attrs["weight_names"]]
            own = group.create_group(layer)
            own.attrs["weight_names"] = [change(layer, i, name) for i, name in enumerate(names)]
            for i, name in enumerate(names):
                own[change(layer, i, name)] = held[layer][name][()]
    return path


def theano(_layer, _i, name):
    return name.removesuffix(":0")


def tensorflow_1(layer, i, name):
    """One scope a layer; what is there already gets a number."""
    own = name.rpartition("/")[2].removesuffix(":0")
    return f"{layer}/{own}_{i // 3}:0" if i > 2 else f"{layer}/{own}:0"


def foreign(_layer, i, name):
    return f"some/other/scope{i // 3}/{name.rpartition('/')[2]}"


@pytest.mark.parametrize("change", [theano, tensorflow_1, foreign])
def test_names_of_weights_do_not_matter_where_there_is_a_configuration(tmp_path, change):
    stacks = alone(load(renamed(tmp_path / "model.h5", change)))
    assert list(stacks) == ["both", "before", "inner.frozen", "inner.free", "stack", "back", "hard", "bare"]
    for name, stack in stacks.items():
        if name in computed() and name != "hard":
            np.testing.assert_allclose(outputs(stack), computed()[name], **EXACT)


def test_a_configuration_that_tells_of_other_layers(tmp_path):
    def change(layer, i, name):
        return name.replace("recurrent_kernel", "other") if layer == "inner" and i < 3 else name

    model = load(renamed(tmp_path / "model.h5", change))
    reasons = {skipped.name: skipped.reason for skipped in model.source.skipped}
    assert reasons["inner.free"] == (
        "recurrent, but the configuration tells of 2 recurrent cells in inner, the weights of 1"
    )
    assert "both" in [stack.name for stack in model.stacks]
