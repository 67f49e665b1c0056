"""The recurrent layers of a Keras file in Keras, each built from what the parser recognized of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rnndiag.parsers.keras.file import parse
from rnndiag.parsers.origin import OriginRuns, Place, layers_of, probe

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras itself would look for TensorFlow
import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rnndiag.parsers.parsed import Convention

_CLASSES: Final = {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}


def run(path: Path) -> OriginRuns:
    """Run each recurrent layer whose weights were recognized.

    Args:
        path: the file. Nothing in it is deserialized by Keras.

    Raises:
        RefusedError: as ``parse``.
    """
    parsed = parse(path)
    runs = OriginRuns(f"Keras {keras.__version__}")
    for place, arrays in layers_of(parsed).items():
        convention = parsed.conventions[place.module]
        given = probe(arrays["ih"].shape[0])
        if convention.layout == "cudnn":
            runs.failures[place] = f"Keras {keras.__version__} has no layer with cuDNN's own layout of weights"
            continue
        try:
            outputs = _outputs(convention, place, arrays, given)
        except Exception as error:  # the libraries below Keras raise almost anything
            reason = " ".join(str(error).split())[:200]
            runs.failures[place] = f"Keras does not run it: {reason}"
            continue
        runs.inputs[place], runs.outputs[place] = given, outputs
    return runs


def _outputs(convention: Convention, place: Place, arrays: Mapping[str, np.ndarray], given: np.ndarray) -> np.ndarray:
    """``[T, B, H]`` of one layer, in the order of the sequence."""
    backwards = place.reverse or convention.backwards
    settings: dict[str, Any] = {
        "units": arrays["hh"].shape[0],
        "activation": convention.nonlinearity or convention.form.activation,
        "use_bias": "bias" in arrays,
        "return_sequences": True,
        "go_backwards": backwards,
    }
    if convention.cell != "rnn":
        settings["recurrent_activation"] = _gate(convention)
    if convention.cell == "gru":
        settings["reset_after"] = convention.reset_after is not False
    layer = getattr(keras.layers, _CLASSES[convention.cell or ""])(**settings)
    layer.build((None, *given.shape[::2]))
    layer.set_weights([arrays[role] for role in ("ih", "hh", "bias") if role in arrays])
    outputs = np.asarray(keras.ops.convert_to_numpy(layer(given.transpose(1, 0, 2)))).transpose(1, 0, 2)
    return outputs[::-1] if backwards else outputs


def _gate(convention: Convention) -> str | Callable[[Any], Any]:
    if convention.form.gate == "hard_sigmoid_fifth":  # as Keras 1 and 2 have it; Keras 3 has another
        return lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)
    return convention.form.gate
