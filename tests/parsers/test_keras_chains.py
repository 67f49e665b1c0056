"""Keras layers that feed one another are levels of one stack, which computes what Keras computes with the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from tests.builders.keras3 import (
    CLOSE,
    INPUTS,
    ON_NUMPY_2,
    SEQUENCES,
    STEPS,
    WIDTH,
    keras,
    kl,
    outputs,
    randomised,
    run,
    saved,
    sequential,
)

pytestmark = ON_NUMPY_2

KERAS_2 = Path(__file__).parent / "keras2"
FORMS = pytest.mark.parametrize("form", ["model.keras", "model.h5"])
PASSING = {
    "dropout": lambda: [kl.Dropout(0.5), kl.SpatialDropout1D(0.2)],
    "noise": lambda: [kl.GaussianNoise(0.3), kl.GaussianDropout(0.2)],
    "identity": lambda: [kl.Activation("linear"), kl.Identity()],
    "each step": lambda: [kl.TimeDistributed(kl.Dropout(0.5))],
    "nothing": list,
}
CHANGING = {
    "dense": (lambda: kl.Dense(4, dtype="float64"), "Dense"),
    "norm": (lambda: kl.BatchNormalization(dtype="float64"), "BatchNormalization"),
    "layer norm": (lambda: kl.LayerNormalization(dtype="float64"), "LayerNormalization"),
    "activation": (lambda: kl.Activation("relu"), "Activation"),
    "convolution": (lambda: kl.Conv1D(4, 1, dtype="float64"), "Conv1D"),
}


def names(model):
    return [[layer.name for layer in stack.layers] for stack in model.stacks]


@FORMS
@pytest.mark.parametrize("between", PASSING)
def test_layers_through_what_changes_no_value(tmp_path, form, between):
    layers = [kl.LSTM(5, name="a", **SEQUENCES), *PASSING[between](), kl.GRU(4, name="b", **SEQUENCES)]
    top = kl.Bidirectional(kl.SimpleRNN(2, activation="relu", **SEQUENCES), name="c")
    model = sequential(*layers, top, kl.Dense(3))
    found = load(saved(tmp_path, model, form))
    (stack,) = found.stacks
    assert stack.name == "a to c"
    assert [layer.name for layer in stack.layers] == ["a.l0", "b.l0", "c.l0", "c.l0.reverse"]
    whole = keras.Sequential(model.layers[:-1])
    np.testing.assert_allclose(outputs(stack, INPUTS), run(whole, INPUTS), **CLOSE)
    assert not any("directly" in note for note in found.notes)


@FORMS
@pytest.mark.parametrize("between", CHANGING)
def test_what_is_not_computed_leaves_them_apart(tmp_path, form, between):
    make, class_ = CHANGING[between]
    layer = make()
    found = load(saved(tmp_path, sequential(kl.LSTM(4, name="a", **SEQUENCES), layer, kl.LSTM(4, name="b")), form))
    assert names(found) == [["a.l0"], ["b.l0"]]
    said = f"because what they read in the model is not computed: b (reads {layer.name}, {class_})"
    assert any(note.endswith(said) for note in found.notes)


def functional(last_reads):
    """Two LSTMs on one another, and what else reads the first."""
    inputs = keras.Input((STEPS, WIDTH), dtype="float64")
    low = kl.LSTM(5, return_state=True, name="low", **SEQUENCES)(inputs)
    high = kl.LSTM(4, name="high", **SEQUENCES)(low[0], initial_state=None)
    return randomised(keras.Model(inputs, last_reads(inputs, low, high)))


@FORMS
def test_what_else_reads_a_level_does_not_matter(tmp_path, form):
    model = functional(lambda inputs, low, high: kl.Concatenate()([inputs, low[0], high]))
    (stack,) = load(saved(tmp_path, model, form)).stacks
    assert stack.name == "low to high"
    np.testing.assert_allclose(outputs(stack, INPUTS), run(model, INPUTS)[..., -4:], **CLOSE)


@FORMS
def test_two_layers_on_one(tmp_path, form):
    model = functional(lambda _, low, high: [high, kl.GRU(2, name="other", **SEQUENCES)(low[0])])
    found = load(saved(tmp_path, model, form))
    assert names(found) == [["low.l0"], ["high.l0"], ["other.l0"]]
    assert any(note.endswith("high (reads low, LSTM), other (reads low, LSTM)") for note in found.notes)


@FORMS
def test_a_last_state_is_no_sequence(tmp_path, form):
    model = sequential(kl.LSTM(4, name="a"), kl.RepeatVector(3), kl.LSTM(4, name="b"))
    found = load(saved(tmp_path, model, form))
    assert names(found) == [["a.l0"], ["b.l0"]]
    assert any("b (reads repeat_vector" in note for note in found.notes)


@FORMS
@pytest.mark.parametrize("merge", ["sum", "mul", "ave"])
def test_a_merge_other_than_concat_ends_a_chain(tmp_path, form, merge):
    both = kl.Bidirectional(kl.LSTM(4, **SEQUENCES), merge_mode=merge, name="both")
    model = sequential(kl.GRU(3, name="low", **SEQUENCES), both, kl.LSTM(4, name="high", **SEQUENCES))
    found = load(saved(tmp_path, model, form))
    assert names(found) == [["low.l0", "both.l0", "both.l0.reverse"], ["high.l0"]]
    assert any("high (reads both, Bidirectional)" in note for note in found.notes)


@FORMS
def test_levels_that_run_against_each_other(tmp_path, form):
    """Keras hands on the sequence in the order in which a layer made it."""
    ways = [True, False, True, True, False]
    layers = [kl.GRU(3, go_backwards=back, name=f"g{i}", **SEQUENCES) for i, back in enumerate(ways)]
    model = sequential(*layers)
    (stack,) = load(saved(tmp_path, model, form)).stacks
    reverse = [layer.direction == "reverse" for layer in stack.layers]
    assert reverse == [True, True, False, True, True]
    np.testing.assert_allclose(outputs(stack, INPUTS), run(model, INPUTS)[:, ::-1], **CLOSE)


@FORMS
def test_a_model_called_twice_is_driven_by_the_probe(tmp_path, form):
    inner = keras.Sequential([keras.Input((STEPS, WIDTH)), kl.LSTM(WIDTH, name="each", **SEQUENCES)], name="inner")
    inputs = keras.Input((STEPS, WIDTH), dtype="float64")
    model = randomised(keras.Model(inputs, inner(kl.Dense(WIDTH, name="d", dtype="float64")(inner(inputs)))))
    found = load(saved(tmp_path, model, form))
    assert names(found) == [["inner.each.l0"]]


def test_the_whole_chain_of_a_model_of_keras_2():
    found = load(KERAS_2 / "chain.h5")
    low, both, _ = found.stacks
    assert names(found) == [
        ["hard.l0", "back.l0.reverse", "before.l0.reverse"],
        ["both.l0", "both.l0.reverse", "both_again.l0", "both_again.l0.reverse"],
        ["last.l0"],
    ]
    assert [(layer.cell, layer.form.gate) for layer in low.layers] == [
        ("hard_sigmoid_lstm", "hard_sigmoid_fifth"),
        ("relu_lstm", "hard_sigmoid_fifth"),
        ("hard_sigmoid_gru", "hard_sigmoid_fifth"),
    ]
    expected = dict(np.load(KERAS_2 / "outputs_chain.npz"))
    exact = {"rtol": 1e-11, "atol": 1e-12}
    inputs = np.load(KERAS_2 / "outputs.npz")["inputs"]
    np.testing.assert_allclose(outputs(low, inputs), expected["chain.before"][:, ::-1], **exact)
    np.testing.assert_allclose(outputs(both, expected["chain.before"]), expected["chain.both_again"], **exact)
    assert any("both (reads before, GRU), last (reads dense, Dense)" in note for note in found.notes)


def test_each_level_agrees_with_keras_itself():
    plain, checked = load(KERAS_2 / "chain.h5"), load(KERAS_2 / "chain.h5", Answers(verify=True))
    assert names(checked) == names(plain)
    (note,) = set(checked.notes) - set(plain.notes)
    assert note.startswith("the states of hard to before, both to both_again, last are those that Keras ")


def config_of(layers, nodes):
    """A functional model's configuration in the form of Keras 1 and 2."""
    held = [
        {"class_name": class_, "name": name, "config": {"name": name, **config}, "inbound_nodes": node}
        for (class_, name, config), node in zip(layers, nodes, strict=True)
    ]
    return json.dumps({"class_name": "Model", "config": {"layers": held, "input_layers": [["i", 0, 0]]}})


@pytest.mark.parametrize(
    "node",
    [
        [[["a", 0, 0, {}]]],
        [["a", 0, 0, {"training": False}]],
        [[["a", 0, 0]]],
        [[["a", 0, 0, {}], ["s", 0, 0, {}], ["s", 0, 0, {}]]],
    ],
    ids=["nested", "flat", "without arguments", "with an initial state"],
)
def test_calls_in_the_forms_of_keras_2(tmp_path, node):
    from tests.builders.keras_files import h5py

    layers = [
        ("InputLayer", "i", {}),
        ("InputLayer", "s", {}),
        ("LSTM", "a", {"return_sequences": True, "units": 3}),
        ("LSTM", "b", {"units": 3}),
    ]
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = config_of(layers, [[], [], [[["i", 0, 0, {}]]], node])
        file.attrs["keras_version"] = "2.2.4"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = ["a", "b"]
        for name, width in (("a", 2), ("b", 3)):
            own = group.create_group(name)
            held = {"kernel": (width, 12), "recurrent_kernel": (3, 12), "bias": (12,)}
            own.attrs["weight_names"] = [f"{name}/{each}:0" for each in held]
            for each, shape in held.items():
                own[f"{name}/{each}:0"] = np.ones(shape, "f4")
    (stack,) = load(path).stacks
    assert [layer.name for layer in stack.layers] == ["a.l0", "b.l0"]
    assert torch.equal(stack.layers[1].weight_ih, torch.ones(12, 3))
