"""The configuration next to a file of weights: believed where its layers fit, and never a danger."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import parts
from rnndiag.parsers.keras.side import MAX_BYTES, side_files
from tests.builders.keras_files import alone

KERAS_2 = Path(__file__).parent / "keras2"
STATED = "activations and directions are those that"


@pytest.fixture
def weights(tmp_path):
    """Weights alone, in a folder of their own."""
    return Path(shutil.copy(KERAS_2 / "chain_weights.h5", tmp_path / "net_weights.h5"))


@pytest.fixture
def config():
    return json.loads((KERAS_2 / "chain.json").read_text())


def cells(model):
    return {name: (stack.layers[0].cell, stack.layers[0].direction) for name, stack in alone(model).items()}


def layer_of(config, name):
    return next(each for each in config["config"]["layers"] if each["config"]["name"] == name)


@pytest.mark.parametrize(
    "name",
    ["net_weights.json", "net.json", "net_architecture.json", "net_model.json", "model.json", "architecture.json"],
)
def test_a_configuration_says_what_weights_do_not(tmp_path, weights, name):
    shutil.copy(KERAS_2 / "chain.json", tmp_path / name)
    model, whole = load(weights), load(KERAS_2 / "chain.h5")
    assert [[layer.name for layer in stack.layers] for stack in model.stacks] == [
        [layer.name for layer in stack.layers] for stack in whole.stacks
    ]
    assert cells(model) == cells(whole)
    (note,) = [note for note in model.notes if STATED in note]
    assert f"{name} next to the file states (SHA-256 " in note
    assert not any("no configuration tells" in note for note in model.notes)


def test_yaml(tmp_path, weights, config):
    yaml = pytest.importorskip("yaml")
    layer_of(config, "hard")["config"]["shape"] = (3, 4)  # PyYAML writes a tag of Python's, as Keras let it
    (tmp_path / "model.yaml").write_text(yaml.dump(config))
    assert "!!python/tuple" in (tmp_path / "model.yaml").read_text()
    assert cells(load(weights)) == cells(load(KERAS_2 / "chain.h5"))


def test_without_it_the_defaults_are_assumed(weights):
    model = load(weights)
    assert cells(model)["hard"] == ("lstm", "forward")
    assert cells(model)["back"] == ("lstm", "forward")
    assert any("defaults of Keras 2.21.0 were assumed" in note for note in model.notes)


def test_the_version_in_the_configuration_counts(tmp_path, weights, config):
    config["keras_version"] = "3.1.0"
    (tmp_path / "model.json").write_text(json.dumps(config))
    gates = {layer.form.gate for stack in load(weights).stacks for layer in stack.layers}
    assert gates == {"sigmoid", "hard_sigmoid"}


def other_units(config):
    layer_of(config, "hard")["config"]["units"] = 5


def a_layer_less(config):
    config["config"]["layers"].remove(layer_of(config, "hard"))


def another_name(config):
    layer_of(config, "hard")["config"]["name"] = "soft"


def another_kind(config):
    layer_of(config, "hard")["class_name"] = "GRU"


def a_layer_more(config):
    layer = json.loads(json.dumps(layer_of(config, "hard")))
    layer["config"]["name"] = "more"
    config["config"]["layers"].append(layer)


@pytest.mark.parametrize("lie", [other_units, a_layer_less, another_name, another_kind, a_layer_more])
def test_another_model_is_not_believed(tmp_path, weights, config, lie):
    lie(config)
    (tmp_path / "net.json").write_text(json.dumps(config))
    model = load(weights)
    assert cells(model)["back"] == ("lstm", "forward")
    assert any(note.startswith("net.json next to the file was not used: ") for note in model.notes)
    assert not any(STATED in note for note in model.notes)


def test_the_one_that_fits_is_used(tmp_path, weights, config):
    shutil.copy(KERAS_2 / "chain.json", tmp_path / "model.json")
    other_units(config)
    (tmp_path / "net.json").write_text(json.dumps(config))
    notes = load(weights).notes
    assert any("net.json next to the file was not used" in note for note in notes)
    assert any("model.json next to the file states" in note for note in notes)


def test_activations_that_are_not_measured_are_refused_by_name(tmp_path, weights, config):
    layer_of(config, "hard")["config"]["activation"] = "elu"
    (tmp_path / "model.json").write_text(json.dumps(config))
    model = load(weights)
    reasons = {skipped.name: skipped.reason for skipped in model.source.skipped}
    assert "its activation is elu; expected tanh or relu" in reasons["hard"]
    assert "hard" not in alone(model)


def test_a_class_that_extends_an_lstm(tmp_path, weights, config):
    """Its configuration is that of an LSTM; what its code changes is not known."""
    layer_of(config, "back")["class_name"] = "ReversedLSTM"
    (tmp_path / "model.json").write_text(json.dumps(config))
    model = load(weights)
    assert cells(model)["back"] == ("relu_lstm", "reverse")
    assert [stack.name for stack in model.stacks][:3] == ["hard", "back", "before to both_again"]
    assert next(stack for stack in model.stacks if stack.name == "back").assumed_class == "ReversedLSTM"
    assert any("before (reads back, ReversedLSTM)" in note for note in model.notes)


HOSTILE = {
    "too large": b" " * (MAX_BYTES + 1),
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "not text": b"\xff\xfe\x00",
    "cut short": b'{"class_name": "Sequential", "config": {"layers": [',
    "many values": b"[" + b"[]," * 1_300_000 + b"[]]",
    "long number": b"9" * 1_000_000,
    "models in models": b'{"class_name": "Sequential", "config": {"layers": [' * 300 + b"]}}" * 300,
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_configurations_leave_the_weights_readable(sandbox, weights, attack):
    (weights.parent / "model.json").write_bytes(HOSTILE[attack])
    outcome = sandbox(weights)
    assert outcome["mib"] < 100
    assert len(outcome["layers"]) == 8
    for note in load(weights).notes:
        assert note.isprintable()
        assert len(note) < 2000


def test_a_gigabyte_is_not_read(sandbox, weights):
    path = weights.parent / "model.json"
    path.touch()
    os.truncate(path, 1 << 30)
    outcome = sandbox(weights)
    assert outcome["mib"] < 100
    assert any(
        "model.json next to the file was not used: expected at most 4 MiB" in note for note in load(weights).notes
    )


def test_yaml_that_grows(weights):
    pytest.importorskip("yaml")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)
    ]
    (weights.parent / "model.yaml").write_text("\n".join(lines))
    assert any("model.yaml next to the file was not used: not valid YAML" in note for note in load(weights).notes)
    (weights.parent / "model.yaml").write_text("!!python/object/apply:os.system ['touch /tmp/never']")
    assert any("could not determine a constructor" in note for note in load(weights).notes)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_opened(weights):
    os.mkfifo(weights.parent / "model.json")
    assert side_files(weights) == []
    assert load(weights).stacks


def test_a_whole_model_does_not_look_beside_itself(tmp_path, config):
    other_units(config)
    (tmp_path / "model.json").write_text(json.dumps(config))
    shutil.copy(KERAS_2 / "chain.h5", tmp_path / "model.h5")
    assert not any("next to the file" in note for note in load(tmp_path / "model.h5").notes)


def test_in_an_archive(tmp_path, weights):
    shutil.copy(KERAS_2 / "chain.json", tmp_path / "model.json")
    archive = shutil.make_archive(str(tmp_path / "both"), "zip", tmp_path, ".")
    model = load(archive)
    assert ("relu_lstm", "reverse") in cells(model).values()
    assert any("model.json next to the file states" in note for note in model.notes)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # Keras on NumPy 2
def test_weights_of_the_newer_layout(tmp_path, config):
    """Keras 3 names places by classes there; the configuration has the names."""
    pytest.importorskip("keras")
    from tests.builders.keras3 import INPUTS, SEQUENCES, kl, outputs, run, saved, sequential

    model = sequential(
        kl.LSTM(5, name="a", recurrent_activation="hard_sigmoid", **SEQUENCES), kl.GRU(4, name="b", **SEQUENCES)
    )
    path = saved(tmp_path, model, "net.weights.h5")
    (tmp_path / "net.json").write_text(model.to_json())
    (stack,) = load(path).stacks
    assert [layer.name for layer in stack.layers] == ["a.l0", "b.l0"]
    np.testing.assert_allclose(outputs(stack, INPUTS), run(model, INPUTS), rtol=1e-5, atol=3e-6)


def test_a_report_that_depends_on_two_files_is_not_cached(tmp_path, weights):
    from rnndiag.api.inspecting import inspect
    from rnndiag.fleet.cache import cached_report

    def cells_of():
        report = cached_report(tmp_path / "cache", str(weights), lambda: inspect(weights, length=8))
        return {layer.cell for layer in report.layers}

    assert "relu_lstm" not in cells_of()
    assert list((tmp_path / "cache").rglob("*.json"))
    shutil.copy(KERAS_2 / "chain.json", tmp_path / "model.json")
    assert "relu_lstm" in cells_of()
    (tmp_path / "model.json").unlink()
    assert "relu_lstm" not in cells_of()


def test_no_output_replaces_the_configuration(tmp_path, weights):
    shutil.copy(KERAS_2 / "chain.json", tmp_path / "model.json")
    assert list(parts(weights)) == [tmp_path / "model.json"]
