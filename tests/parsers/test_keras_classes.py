"""Keras models in models, layers in classes that are not Keras's, and cells that are passed over by name."""

from __future__ import annotations

import numpy as np
import pytest

from rnndiag.checkpoint import load
from tests.builders.keras3 import (
    CLOSE,
    FORMS,
    INPUTS,
    ON_NUMPY_2,
    SEQUENCES,
    STEPS,
    WIDTH,
    alone,
    keras,
    kl,
    outputs,
    randomised,
    reasons,
    run,
    saved,
    sequential,
)

pytestmark = ON_NUMPY_2


def nested():
    """A model in a model in a wrapper, with a frozen layer, which the older format writes last."""
    frozen = kl.GRU(4, name="frozen", trainable=False, **SEQUENCES)
    inner = keras.Sequential(
        [keras.Input((STEPS, 4), dtype="float64"), frozen, kl.GRU(4, name="free", **SEQUENCES)], name="inner"
    )
    ids = keras.Input((STEPS,), dtype="int32")
    below = kl.Embedding(9, 4, name="vectors", dtype="float64")(ids)
    encoded = inner(below)
    again = kl.TimeDistributed(kl.LSTM(3, name="each", dtype="float64"), name="td", dtype="float64")(
        kl.Reshape((2, STEPS // 2, 4), dtype="float64")(encoded)
    )
    return randomised(keras.Model(ids, again, name="whole"))


@pytest.mark.parametrize("form", ["model.keras", "model.h5"])
def test_models_in_models(tmp_path, form):
    model = nested()
    found = load(saved(tmp_path, model, form))
    by_name = {stack.name: stack for stack in found.stacks}
    assert set(by_name) == {"inner.frozen to inner.free", "td.each"}
    inputs = np.random.default_rng(0).normal(size=(2, STEPS, 4))
    below = outputs(alone(found)["inner.frozen"], inputs)
    np.testing.assert_allclose(below, run(model.get_layer("inner").get_layer("frozen"), inputs), **CLOSE)
    inner = outputs(by_name["inner.frozen to inner.free"], inputs)
    np.testing.assert_allclose(inner, run(model.get_layer("inner"), inputs), **CLOSE)
    last = run(model.get_layer("td").layer, inputs)
    np.testing.assert_allclose(outputs(by_name["td.each"], inputs)[:, -1], last, **CLOSE)
    table = model.get_layer("vectors").get_weights()[0]
    assert all(np.array_equal(stack.embedding, table) for stack in by_name.values())
    assert reasons(found) == {"vectors.embeddings": "embedding; --probe tokens draws its rows"}


class Encoder(keras.layers.Layer):
    """A custom layer around Keras's own; nothing of it is imported by a reader."""

    def __init__(self, **options):
        super().__init__(**options)
        self.rnn = kl.GRU(4, name="inner_gru", **SEQUENCES)
        self.more = [kl.LSTM(5, **SEQUENCES), kl.LSTM(2, **SEQUENCES)]

    def build(self, shape):
        self.rnn.build(shape)
        self.more[0].build((*shape[:2], 4))
        self.more[1].build((*shape[:2], 5))

    def call(self, inputs):
        return self.more[1](self.more[0](self.rnn(inputs)))


@FORMS
@pytest.mark.parametrize("whole", [False, True], ids=["layer", "model"])
def test_layers_in_classes_that_are_not_keras_s(tmp_path, form, whole):
    layer = Encoder(name="enc", dtype="float64")
    model = sequential(layer, kl.Dense(2, dtype="float64"))
    if whole:

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.enc = layer

            def call(self, inputs):
                return self.enc(inputs)

        model = Net()
        model.build((2, STEPS, WIDTH))
        form = form.replace("model.h5", "other.weights.h5")  # which Keras does not write of such a model
    found = load(saved(tmp_path, model, form))
    by_width = {stack.layers[0].hidden_size: stack for stack in found.stacks}
    assert all(stack.name.startswith(("enc.", "encoder.")) for stack in found.stacks)
    states = outputs(by_width[2], outputs(by_width[5], outputs(by_width[4], INPUTS)))
    np.testing.assert_allclose(states, run(layer, INPUTS), **CLOSE)
    assert any("no configuration tells of enc" in note for note in found.notes)


class Extended(keras.Model):
    """A model of which a configuration tells, and a layer more."""

    def __init__(self):
        inputs = keras.Input((STEPS, WIDTH))
        super().__init__(inputs, kl.GRU(4, name="told")(inputs))
        self.more = kl.LSTM(5)
        self.more.build((2, STEPS, WIDTH))

    def get_config(self):
        return keras.Model(self.inputs, self.outputs).get_config()


def test_what_a_class_keeps_beside_the_layers_of_its_configuration(tmp_path):
    found = load(saved(tmp_path, Extended(), "model.keras"))
    assert [stack.name for stack in found.stacks] == ["told", "more"]
    assert any(note.startswith("no configuration tells of more:") for note in found.notes)


class Reversed(keras.layers.Layer):
    """A cell of someone's own, of the very shapes of Keras's."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.state_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.state_size), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.state_size, self.state_size), name="recurrent_kernel")

    def call(self, inputs, states):
        state = keras.ops.tanh(inputs @ self.kernel - states[0] @ self.recurrent_kernel)
        return state, [state]


def own(inputs):
    return inputs


class GRU(Reversed):
    """By the name of one of Keras's."""


@pytest.mark.parametrize("form", ["model.keras", "model.h5"])
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (kl.LSTM(5, activation="softsign"), "its activation is softsign; expected tanh or relu"),
        (kl.SimpleRNN(5, activation="linear"), "its activation is linear; expected tanh or relu"),
        (kl.SimpleRNN(5, activation=None), "its activation is linear; expected tanh or relu"),
        (kl.GRU(5, recurrent_activation="elu"), "its recurrent_activation is elu; expected sigmoid or hard_sigmoid"),
        (kl.GRU(5, activation=own), "its activation is own (custom); expected tanh or relu"),
        (kl.RNN(Reversed(5)), "Reversed"),
        (kl.RNN([kl.GRUCell(5), Reversed(5)]), "Reversed"),
        (kl.RNN(GRU(5)), "GRU"),
        (kl.Bidirectional(kl.GRU(5, activation="elu")), "its activation is elu; expected tanh or relu"),
    ],
)
def test_other_cells_are_passed_over_by_name(tmp_path, layer, reason, form):
    layer.name = "odd"
    model = sequential(kl.GRU(2, name="ok", return_sequences=True, dtype="float32"), layer, dtype="float32")
    found = load(saved(tmp_path, model, form))
    assert [stack.name for stack in found.stacks] == ["ok"]
    assert reason in reasons(found)["odd"]
    assert reasons(found)["odd"].startswith("recurrent, but ")
    assert "--import" in reasons(found)["odd"]


@FORMS
def test_convolutions_are_no_cells(tmp_path, form):
    images = keras.Sequential([keras.Input((4, 6, 6, 2)), kl.ConvLSTM2D(3, 3, name="conv"), kl.Flatten(), kl.Dense(2)])
    images.add(kl.Reshape((1, 2)))
    images.add(kl.GRU(2, name="ok"))
    found = load(saved(tmp_path, images, form))
    assert [stack.name for stack in found.stacks] == ["ok"]
    assert "recurrent, but" in reasons(found)["conv"]
    assert "weights" in form or "ConvLSTM2D is none of SimpleRNN, GRU and LSTM" in reasons(found)["conv"]
