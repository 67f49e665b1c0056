"""Models that Keras 3 saves: every recurrent layer computes what Keras itself computes, under Keras's own name."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from tests.builders.keras3 import (
    CLOSE,
    FORMS,
    INPUTS,
    ON_NUMPY_2,
    SEQUENCES,
    STEPS,
    WIDTH,
    alone,
    h5py,
    keras,
    kl,
    outputs,
    run,
    saved,
    sequential,
    stacks,
)

pytestmark = ON_NUMPY_2

LAYERS = {
    "tanh": lambda name: kl.SimpleRNN(5, name=name, **SEQUENCES),
    "relu": lambda name: kl.SimpleRNN(5, activation="relu", name=name, **SEQUENCES),
    "gru": lambda name: kl.GRU(5, name=name, **SEQUENCES),
    "gru, reset before": lambda name: kl.GRU(5, reset_after=False, name=name, **SEQUENCES),
    "lstm": lambda name: kl.LSTM(5, name=name, **SEQUENCES),
    "tanh, bare": lambda name: kl.SimpleRNN(5, use_bias=False, name=name, **SEQUENCES),
    "gru, bare": lambda name: kl.GRU(5, use_bias=False, name=name, **SEQUENCES),
    "lstm, bare": lambda name: kl.LSTM(5, use_bias=False, name=name, **SEQUENCES),
    "one unit": lambda name: kl.LSTM(1, name=name, **SEQUENCES),
    "dropout": lambda name: kl.GRU(5, dropout=0.5, recurrent_dropout=0.5, name=name, **SEQUENCES),
    "unrolled": lambda name: kl.GRU(5, unroll=True, name=name, **SEQUENCES),
    "a cell": lambda name: kl.RNN(kl.GRUCell(5, dtype="float64"), name=name, **SEQUENCES),
    "a relu cell": lambda name: kl.RNN(kl.SimpleRNNCell(5, activation="relu", dtype="float64"), name=name, **SEQUENCES),
    "cells": lambda name: kl.RNN([kl.LSTMCell(5, dtype="float64") for _ in range(3)], name=name, **SEQUENCES),
    "both ways": lambda name: kl.Bidirectional(kl.GRU(5, **SEQUENCES), name=name, dtype="float64"),
    "both ways, lstm": lambda name: kl.Bidirectional(kl.LSTM(5, **SEQUENCES), name=name, dtype="float64"),
}


@FORMS
@pytest.mark.parametrize("kind", LAYERS)
def test_hidden_states_are_keras_s_own(tmp_path, kind, form):
    layer = LAYERS[kind]("enc")
    path = saved(tmp_path, sequential(layer), form)
    (stack,) = load(path, Answers(nonlinearity="relu" if "relu" in kind else "tanh")).stacks
    assert stack.name == "enc"
    assert {each.weight_hh.dtype for each in stack.layers} == {torch.float64}
    np.testing.assert_allclose(outputs(stack, INPUTS), run(layer, INPUTS), **CLOSE)


def gru_before(layer, inputs):
    """The recurrence of Cho et al. (2014), from parameters in PyTorch's order: the reset gate times the state."""
    w, u, b = (getattr(layer, name).numpy() for name in ("weight_ih", "weight_hh", "bias_ih"))
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n) = (np.split(each, 3) for each in (w, u, b))
    state, states = np.zeros((len(inputs), len(u_r))), []
    for x in inputs.swapaxes(0, 1):
        r, z = (1 / (1 + np.exp(-(x @ w.T + state @ u.T + b))) for w, u, b in ((w_r, u_r, b_r), (w_z, u_z, b_z)))
        state = z * state + (1 - z) * np.tanh(x @ w_n.T + (r * state) @ u_n.T + b_n)
        states.append(state)
    return np.stack(states, 1)


@FORMS
def test_reset_before_is_told_from_reset_after(tmp_path, form):
    before, after = kl.GRU(5, reset_after=False, name="before", **SEQUENCES), kl.GRU(5, name="after", **SEQUENCES)
    found = stacks(saved(tmp_path, sequential(before, after), form))
    assert [found[name].layers[0].reset_after for name in ("before", "after")] == [False, True]
    assert not found["before"].layers[0].bias_hh.any()
    np.testing.assert_allclose(gru_before(found["before"].layers[0], INPUTS), run(before, INPUTS), **CLOSE)


@pytest.mark.parametrize("form", ["model.keras", "model.h5"])
@pytest.mark.parametrize("cells", [1, 2])
def test_what_goes_backwards(tmp_path, form, cells):
    each = [kl.LSTMCell(5, dtype="float64") for _ in range(cells)]
    layer = kl.RNN(each if cells > 1 else each[0], go_backwards=True, name="enc", **SEQUENCES)
    (stack,) = load(saved(tmp_path, sequential(layer), form)).stacks
    assert {each.direction for each in stack.layers} == {"reverse"}
    np.testing.assert_allclose(outputs(stack, INPUTS), run(layer, INPUTS)[:, ::-1], **CLOSE)


@FORMS
def test_directions_that_differ_are_modules_of_their_own(tmp_path, form):
    forward, backward = kl.GRU(5, **SEQUENCES), kl.LSTM(5, go_backwards=True, **SEQUENCES)
    layer = kl.Bidirectional(forward, backward_layer=backward, merge_mode=None, name="bi", dtype="float64")
    found = stacks(saved(tmp_path, sequential(layer, kl.Lambda(lambda pair: pair[0])), form))
    (one, one_stack), (other, other_stack) = found.items()
    assert one.startswith("bi.forward")
    assert other.startswith("bi.backward")
    expected = run(layer, INPUTS)
    np.testing.assert_allclose(outputs(one_stack, INPUTS), expected[0], **CLOSE)
    np.testing.assert_allclose(outputs(other_stack, INPUTS), expected[1], **CLOSE)


def test_a_forward_layer_that_goes_backwards(tmp_path):
    ahead, back = kl.GRU(5, **SEQUENCES), kl.GRU(5, go_backwards=True, **SEQUENCES)
    layer = kl.Bidirectional(back, backward_layer=ahead, merge_mode=None, name="bi", dtype="float64")
    model = load(saved(tmp_path, sequential(layer, kl.Lambda(lambda pair: pair[0])), "model.keras"))
    own, mirrored = (each[:, ::-1] for each in run(layer, INPUTS))  # each in the order of the other's time
    np.testing.assert_allclose(outputs(model.stacks[0], INPUTS), np.concatenate((mirrored, own), -1), **CLOSE)
    assert "the directions of bi are merged by None in the model; they were measured side by side" in model.notes


@FORMS
def test_stacked_cells_that_differ(tmp_path, form):
    cells = [kl.LSTMCell(5, name="low", dtype="float64"), kl.GRUCell(4, name="high", dtype="float64")]
    layer = kl.RNN(cells, name="stack", **SEQUENCES)
    model = load(saved(tmp_path, sequential(layer), form))
    found = alone(model)
    below = outputs(found["stack.low"], INPUTS)
    np.testing.assert_allclose(outputs(found["stack.high"], below), run(layer, INPUTS), **CLOSE)
    # Weights alone do not tell the order of the cells.
    expected = ["stack.high", "stack.low"] if "weights" in form else ["stack.low to stack.high"]
    assert [stack.name for stack in model.stacks] == expected


@FORMS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "mixed_bfloat16"])
def test_the_file_s_precision_is_kept(tmp_path, dtype, form):
    drawn = "glorot_uniform"
    layer = kl.GRU(5, dtype=dtype, recurrent_initializer=drawn, bias_initializer=drawn, name="enc")
    model = keras.Sequential([keras.Input((STEPS, WIDTH)), layer])
    (stack,) = load(saved(tmp_path, model, form)).stacks
    (found,) = stack.layers
    assert found.weight_hh.dtype == getattr(torch, dtype.replace("mixed_bfloat16", "float32"))
    held = layer.cell.recurrent_kernel.value.detach().double().numpy().T
    update, reset, new = np.split(held, 3)
    assert np.array_equal(found.weight_hh.double(), np.concatenate((reset, update, new)))


def test_many_layers_in_order_and_what_is_noted(tmp_path):
    cells = [kl.GRU(2, name=f"gru_{i}", return_sequences=True) for i in range(12)]
    model = keras.Sequential([keras.Input((STEPS, WIDTH)), kl.LSTM(2, name="z", return_sequences=True), *cells])
    found = load(saved(tmp_path, model, "model.keras"))
    (stack,) = found.stacks
    assert [layer.name for layer in stack.layers] == ["z.l0", *(f"gru_{i}.l0" for i in range(12))]
    (note,) = found.notes
    assert note.startswith("Keras's gate order z, r, h was rearranged to PyTorch's r, z, n in gru_0, gru_1, ")
    assert note.endswith("gru_7 and 4 more")


def test_optimizer_state_is_no_layer(tmp_path):
    model = sequential(kl.GRU(2, name="enc", dtype="float64"))
    model.compile("adam", "mse")
    model.fit(INPUTS, np.zeros((2, 2)), verbose=0)
    for form in ("model.keras", "model.h5", "model.weights.h5"):
        found = load(saved(tmp_path, model, form))
        assert [stack.name for stack in found.stacks] == ["enc"]
        assert not found.source.skipped


def test_without_bias_nothing_tells_when_the_reset_gate_acts(tmp_path):
    found = load(saved(tmp_path, sequential(kl.GRU(2, use_bias=False, name="enc")), "model.weights.h5"))
    said = "reset_after=True, the default of Keras, was assumed for enc: without a bias nothing tells"
    assert said in found.notes


def test_a_relu_layer_is_assumed_to_be_tanh_where_only_weights_are_kept(tmp_path):
    found = load(saved(tmp_path, sequential(kl.SimpleRNN(2, activation="relu", name="enc")), "model.weights.h5"))
    assert "tanh was assumed for enc: the file does not say; --nonlinearity relu changes it" in found.notes
    assert found.stacks[0].layers[0].nonlinearity_assumed


def test_a_model_without_layers_says_what_it_saw(refusal, tmp_path):
    model = keras.Sequential([keras.Input((3,)), kl.Dense(4, name="hidden"), kl.Dropout(0.5)])
    for form in ("model.keras", "model.h5"):
        assert "no recurrent layer: expected a SimpleRNN, GRU or LSTM layer" in refusal(saved(tmp_path, model, form))
        assert refusal(tmp_path / form).endswith("saw hidden (Dense)")


def test_compressed_weights_are_read(tmp_path):
    """As h5repack leaves them; and an archive that was packed again."""
    model = sequential(kl.LSTM(40, name="enc", **SEQUENCES))
    path = saved(tmp_path, model, "model.weights.h5")
    with h5py.File(path) as source, h5py.File(tmp_path / "packed.h5", "w", userblock_size=1024) as target:
        for name in (f"layers/lstm/cell/vars/{i}" for i in range(3)):
            target.create_dataset(name, data=source[name], compression="gzip", shuffle=True, chunks=True)
    old = zipfile.ZipFile(saved(tmp_path, model, "model.keras"))
    with old, zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    expected = run(model.layers[0], INPUTS)
    for name in ("packed.h5", "packed.keras"):
        (stack,) = load(tmp_path / name).stacks
        np.testing.assert_allclose(outputs(stack, INPUTS), expected, **CLOSE)


def test_an_archive_without_weights(refusal, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({}))
        archive.writestr("metadata.json", json.dumps({}))
    assert "a Keras archive without model.weights.h5" in refusal(tmp_path / "model.keras")


def test_names_that_would_become_the_same(tmp_path):
    inner = keras.Sequential([keras.Input((STEPS, WIDTH)), kl.GRU(WIDTH, name="b", return_sequences=True)], name="a")
    model = keras.Sequential([keras.Input((STEPS, WIDTH)), inner, kl.GRU(2, name="other")])
    path = saved(tmp_path, model, "model.keras")
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in held.items():
            archive.writestr(name, data.replace(b'"other"', b'"a.b"'))
    assert [layer.name for stack in load(path).stacks for layer in stack.layers] == ["a.b.l0", "a.b#2.l0"]
