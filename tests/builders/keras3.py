"""Models that Keras 3 builds and runs, on PyTorch; and what a loaded stack makes of the same inputs."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.trajectory import run_stack
from tests.builders.keras_files import alone

os.environ.setdefault("KERAS_BACKEND", "torch")
h5py = pytest.importorskip("h5py")
keras = pytest.importorskip("keras")
kl = keras.layers

ON_NUMPY_2 = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""What Keras's variables lack."""

CLOSE = {"rtol": 1e-5, "atol": 3e-6}
"""Outside TensorFlow, Keras multiplies matrices of float64 in float32 (keras/src/backend/common/dtypes.py)."""

STEPS, WIDTH = 6, 3
INPUTS = np.random.default_rng(0).normal(size=(2, STEPS, WIDTH))

SEQUENCES = {"return_sequences": True, "dtype": "float64"}

FORMS = pytest.mark.parametrize("form", ["model.keras", "model.h5", "model.weights.h5"])


def randomised(layer, seed=1):
    """Keras draws biases as zero; a misplaced one would not show."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) * 0.7 for weight in layer.get_weights()])
    return layer


def sequential(*layers, width=WIDTH, dtype="float64"):
    return randomised(keras.Sequential([keras.Input((STEPS, width), dtype=dtype), *layers]))


def saved(tmp_path, model, form):
    path = tmp_path / form
    (model.save_weights if "weights" in form else model.save)(path)
    return path


def stacks(path, **options):
    return alone(load(path, **options))


def run(layer, inputs):
    """Keras's own run."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, layer(inputs))


def outputs(stack, inputs):
    """Those of the last level, ``[B, T, R]``, as ``nn.RNN`` gives them."""
    runs = run_stack(stack, torch.from_numpy(np.asarray(inputs)).transpose(0, 1))[-1]
    hidden = [run.hidden.flip(0) if run.layer.direction == "reverse" else run.hidden for run in runs]
    return torch.cat(hidden, -1).transpose(0, 1).numpy()


def reasons(model):
    return {skipped.name: skipped.reason for skipped in model.source.skipped}
