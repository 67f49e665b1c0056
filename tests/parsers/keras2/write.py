"""Write the models beside this file with Keras 2, which needs TensorFlow, and what Keras computes on them.

    pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0 && python write.py tf_keras
    pip install tensorflow-cpu==2.12.0 && python write.py keras  # elsewhere: the first form of .keras archives

``outputs.npz`` holds each recurrent layer's own hidden states on ``inputs``, by layer; ``outputs_first.npz`` those of
the second line, for ``first.keras``. ``outputs_chain.npz`` holds the output of each layer of ``chain.h5`` in a run of
the whole model on ``inputs``; ``chain_weights.h5`` and ``chain.json`` are the same model, as two files.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
keras = importlib.import_module(sys.argv[1])
kl = keras.layers
keras.backend.set_floatx("float64")
keras.utils.set_random_seed(0)
INPUTS = np.random.default_rng(0).normal(size=(2, 6, 3))
SEQUENCES = {"return_sequences": True}


def randomised(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) * 0.7 for weight in model.get_weights()])
    return model


def network():
    """Every kind of layer; ``inner`` has a frozen one first, which the older format writes last."""
    frozen = kl.GRU(3, name="frozen", trainable=False, **SEQUENCES)
    inner = keras.Sequential([keras.Input((6, 3)), frozen, kl.LSTM(3, name="free", **SEQUENCES)], name="inner")
    cells = [kl.LSTMCell(3, name="low"), kl.LSTMCell(3, name="high")]
    layers = [
        kl.Embedding(9, 3, name="table"),
        kl.TimeDistributed(kl.Flatten(), name="flat"),
        kl.Bidirectional(kl.GRU(3, **SEQUENCES), merge_mode="sum", name="both"),
        kl.GRU(3, reset_after=False, name="before", **SEQUENCES),
        kl.TimeDistributed(kl.Dense(3), name="between"),
        inner,
        kl.RNN(cells, name="stack", **SEQUENCES),
        kl.SimpleRNN(3, activation="relu", go_backwards=True, name="back", **SEQUENCES),
        kl.GRU(2, recurrent_activation="hard_sigmoid", name="hard", **SEQUENCES),
        kl.LSTM(2, use_bias=False, name="bare", **SEQUENCES),
        kl.Lambda(lambda x: x * 2.0, name="twice"),
    ]
    return randomised(keras.Sequential([keras.Input((6,), dtype="int32"), *layers], name="net"))


def cudnn():
    """Keras converts on loading, so the twins compute what the layers of cuDNN's, which need a GPU, would."""
    from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
    from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    layers = [CuDNNLSTM(4, name="lstm", **SEQUENCES), CuDNNGRU(5, name="gru", **SEQUENCES)]
    fast = keras.Sequential([keras.Input((6, 3)), *layers])
    randomised(fast)
    twins = {"lstm": kl.LSTM(4, **SEQUENCES), "gru": kl.GRU(5, **SEQUENCES)}
    states = {}
    below = INPUTS
    for layer in fast.layers:
        twin = twins[layer.name]
        twin.build((None, *below.shape[1:]))
        twin.set_weights(preprocess_weights_for_loading(twin, layer.get_weights(), original_keras_version="2"))
        below = states[f"cudnn.{layer.name}"] = twin(below).numpy()
    fast.save(HERE / "cudnn.h5")
    return states


def chain():
    """Layers that feed one another, and what they output; ``hard_sigmoid`` is Keras 2's."""
    hard = {"recurrent_activation": "hard_sigmoid", **SEQUENCES}
    layers = [
        kl.LSTM(4, name="hard", **hard),
        kl.SpatialDropout1D(0.2),
        kl.LSTM(5, activation="relu", go_backwards=True, name="back", **hard),
        kl.GRU(3, reset_after=False, name="before", **hard),
        kl.Activation("linear"),
        kl.Bidirectional(kl.LSTM(2, **SEQUENCES), name="both"),
        kl.Bidirectional(kl.GRU(2, **SEQUENCES), name="both_again"),
        kl.Dense(2),
        kl.SimpleRNN(3, name="last"),
    ]
    model = randomised(keras.Sequential([keras.Input((6, 3)), *layers]))
    states, below = {}, INPUTS
    for layer in model.layers:
        below = layer(below, training=False).numpy()
        if layer.name in ("hard", "back", "before", "both", "both_again"):
            states[f"chain.{layer.name}"] = below
    model.save(HERE / "chain.h5")
    model.save_weights(HERE / "chain_weights.h5")
    (HERE / "chain.json").write_text(model.to_json())
    return states


def states_of(model):
    bi = model.get_layer("both")
    halves = [half(INPUTS).numpy() for half in (bi.forward_layer, bi.backward_layer)]
    found = {"both": np.concatenate((halves[0], halves[1][:, ::-1]), -1)}
    inner = model.get_layer("inner")
    found |= {f"inner.{layer.name}": layer(INPUTS).numpy() for layer in inner.layers}
    found["back"] = model.get_layer("back")(INPUTS).numpy()[:, ::-1]
    return found | {name: model.get_layer(name)(INPUTS).numpy() for name in ("before", "stack", "hard")}


net = network()
if sys.argv[1] == "keras":
    net.save(HERE / "first.keras", save_format="keras_v3")
    np.savez_compressed(HERE / "outputs_first.npz", **states_of(net))
else:
    net.save(HERE / "net.keras")
    net.save(HERE / "net.h5")
    net.save_weights(HERE / "net_weights.h5")
    np.savez_compressed(HERE / "outputs_chain.npz", **chain())
    np.savez_compressed(HERE / "outputs.npz", inputs=INPUTS, **states_of(net), **cudnn())
