"""Changed models written back into Keras's files, and what Keras makes of them."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write.write_back import rewrite
from rnndiag.errors import CheckpointError
from tests.checkpoint.keras3 import (
    CLOSE,
    FORMS,
    INPUTS,
    ON_NUMPY_2,
    SEQUENCES,
    h5py,
    keras,
    kl,
    outputs,
    run,
    saved,
    sequential,
    stacks,
)
from tests.checkpoint.test_keras2 import FOLDER
from tests.checkpoint.treated import layers_of, members_that_differ, treated, written

pytestmark = ON_NUMPY_2

LAYERS = {
    "rnn": lambda: kl.SimpleRNN(4, name="layer", **SEQUENCES),
    "gru": lambda: kl.GRU(4, name="layer", **SEQUENCES),
    "gru_reset_first": lambda: kl.GRU(4, name="layer", reset_after=False, **SEQUENCES),
    "lstm": lambda: kl.LSTM(4, name="layer", **SEQUENCES),
    "no_bias": lambda: kl.LSTM(4, name="layer", use_bias=False, **SEQUENCES),
    "both": lambda: kl.Bidirectional(kl.GRU(4, **SEQUENCES), name="layer"),
}


def partly(layer):
    """Treated in all but the bias that Keras has not."""
    new = treated(layer)
    if layer.bias_hh is not None and not layer.bias_hh.any():
        return replace(new, bias_hh=layer.bias_hh.to(torch.float64))
    return new


@FORMS
@pytest.mark.parametrize("kind", LAYERS)
def test_keras_computes_with_the_new_weights(tmp_path, form, kind):
    model = sequential(LAYERS[kind](), kl.Dense(2, dtype="float64"))
    path = saved(tmp_path, model, form)
    (tmp_path / "new").mkdir()
    target = tmp_path / "new" / form
    changed = {name: partly(layer) for name, layer in layers_of(load(path)).items()}
    rewrite(path, target, changed)
    old = [np.array(weight) for weight in model.get_weights()]
    if "weights" in form:
        model.load_weights(target)
    else:
        model = keras.models.load_model(target)
    (stack,) = stacks(target).values()
    for layer in stack.layers:
        for name, value in layer.parameters.items():
            assert torch.equal(value, changed[layer.name].parameters[name]), name
    np.testing.assert_allclose(run(model.layers[0], INPUTS), outputs(stack, INPUTS), **CLOSE)
    same = [np.array_equal(one, other) for one, other in zip(old, model.get_weights(), strict=True)]
    inputs = [index for index, equal in enumerate(same) if equal]
    assert inputs == ([0, 3, 6, 7] if kind == "both" else [0, len(old) - 2, len(old) - 1])
    if form.endswith(".keras"):
        assert members_that_differ(path, target) == {"model.weights.h5"}
    assert path.stat().st_size == target.stat().st_size


@pytest.mark.parametrize("name", ["net.h5", "net.keras", "first.keras", "net_weights.h5"])
def test_files_of_keras_2(tmp_path, name):
    shutil.copy(FOLDER / name, tmp_path / name)
    layers = layers_of(load(tmp_path / name))
    rewrite(tmp_path / name, tmp_path / f"new {name}", {n: partly(layer) for n, layer in layers.items()})
    for own, layer in layers_of(load(tmp_path / f"new {name}")).items():
        assert torch.equal(layer.weight_hh, treated(layers[own]).weight_hh.to(layer.weight_hh.dtype))


def test_another_bias_than_keras_has(tmp_path):
    path = saved(tmp_path, sequential(LAYERS["lstm"]()), "model.keras")
    with pytest.raises(CheckpointError, match=r"bias_hh: the change has no place in the file: .*taken as zero"):
        written(path, tmp_path / "new.keras")


def test_compressed(tmp_path):
    path = saved(tmp_path, sequential(LAYERS["lstm"]()), "model.weights.h5")
    with h5py.File(path) as old, h5py.File(tmp_path / "packed.weights.h5", "w") as new:

        def pack(name, part):
            if isinstance(part, h5py.Dataset):
                new.create_dataset(name, data=part[()], compression="gzip" if part.ndim else None)

        old.visititems(pack)
    with pytest.raises(CheckpointError, match="in chunks or compressed"):
        written(tmp_path / "packed.weights.h5", tmp_path / "new.weights.h5")


def test_behind_a_block_of_the_users_own(tmp_path):
    path = saved(tmp_path, sequential(LAYERS["rnn"]()), "model.weights.h5")
    with h5py.File(path) as old, h5py.File(tmp_path / "moved.weights.h5", "w", userblock_size=512) as new:
        for name in old:
            old.copy(name, new)
    (layer,) = layers_of(load(tmp_path / "moved.weights.h5")).values()
    rewrite(tmp_path / "moved.weights.h5", tmp_path / "new.weights.h5", {layer.name: partly(layer)})
    (result,) = layers_of(load(tmp_path / "new.weights.h5")).values()
    assert torch.equal(result.weight_hh, treated(layer).weight_hh)
