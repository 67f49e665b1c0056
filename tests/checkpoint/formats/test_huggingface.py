"""Folders in the layout of the Hugging Face hub, written by huggingface_hub."""

from __future__ import annotations

import json
import os

import pytest
from torch import nn

from rnndiag.checkpoint import load
from tests.builders.modules import MODULES, Net, assert_same_run

hub = pytest.importorskip("huggingface_hub", exc_type=ImportError)


@pytest.fixture
def folder(tmp_path):
    """Write a state_dict, and the settings if there are any; the path of the folder."""

    def write(state, config=None, **options):
        hub.save_torch_state_dict(state, tmp_path, **options)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (tmp_path / "config.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize("options", [{}, {"max_shard_size": 500}], ids=["whole", "sharded"])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("kind", MODULES)
def test_hidden_states(folder, kind, safe, options):
    net = Net(MODULES[kind]())
    config = {"nonlinearity": "relu"} if kind == "relu" else {"hidden_size": 5}
    path = folder(net.state_dict(), config, safe_serialization=safe, **options)
    model = load(path)
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert_same_run(model.stacks[0], net.rnn)
    assert model.source.format == "huggingface"
    assert model.source.sha256 == ""
    if kind == "relu":
        assert model.notes == ("relu was taken for rnn: the file says so in config.json: nonlinearity",)


@pytest.mark.parametrize("options", [{}, {"max_shard_size": 500}], ids=["whole", "sharded"])
def test_a_model_of_the_mixin(tmp_path, options):
    """The hub's own base class for models that are not of transformers."""

    class Model(Net, hub.PyTorchModelHubMixin):
        def __init__(self, hidden: int, nonlinearity: str):
            super().__init__(nn.RNN(3, hidden, nonlinearity=nonlinearity))

    net = Model(hidden=5, nonlinearity="relu")
    net.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.stacks[0].layers[0].cell == "relu"
    assert_same_run(model.stacks[0], net.rnn)


def test_safetensors_are_preferred(folder):
    net, other = nn.GRU(3, 5), nn.GRU(3, 5)
    folder(other.state_dict(), safe_serialization=False)
    model = load(folder(net.state_dict()))
    assert_same_run(model.stacks[0], net)
    assert model.notes == ("model.safetensors was read; pytorch_model.bin beside it was not",)


def test_an_index_under_another_name(folder, refusal):
    net = nn.GRU(3, 5)
    path = folder(net.state_dict(), max_shard_size=500, filename_pattern="diffusion{suffix}.safetensors")
    assert_same_run(load(path).stacks[0], net)
    (path / "other.safetensors.index.json").write_text("{}")
    assert "several indices (diffusion.safetensors.index.json, other.safetensors.index.json)" in refusal(path)


def test_refusals_name_the_file_in_the_folder(folder, refusal):
    path = folder(nn.GRU(3, 5).state_dict(), max_shard_size=500)
    next(path.glob("model-00002*")).unlink()
    message = refusal(path)
    assert f"{path}: model.safetensors.index.json: model-00002-of-0000" in message
    assert "is missing" in message
    (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert f"{path}: model.safetensors: a Git LFS pointer" in refusal(path)


@pytest.mark.parametrize("config", ["{", '{"a": ' * 100_000, "\0", '{"nonlinearity": "relu"' + " " * 2**21 + "}"])
def test_a_config_that_is_none_is_passed_over(folder, config):
    model = load(folder(nn.RNN(3, 5).state_dict(), config))
    assert model.stacks[0].layers[0].nonlinearity_assumed
    assert model.source.skipped[-1].reason == "it cannot be read as JSON"


@pytest.mark.parametrize(
    "config", [[], {}, {"nonlinearity": "selu"}, {"nonlinearity": ["tanh"]}, {"hidden_act": "relu"}]
)
def test_other_settings_are_no_statement(folder, config):
    model = load(folder(nn.RNN(3, 5).state_dict(), config))
    assert model.stacks[0].layers[0].nonlinearity_assumed
    assert not model.source.skipped


def test_a_config_that_is_no_file(folder, tmp_path):
    path = folder(nn.RNN(3, 5).state_dict())
    os.mkfifo(path / "config.json")
    assert load(path).source.skipped[-1].name == "config.json"
    (path / "config.json").unlink()
    (path / "config.json").symlink_to("/etc/hostname")
    assert load(path).source.skipped[-1].name == "config.json"


def test_folders_of_other_things(refusal, tmp_path):
    (tmp_path / "data.pkl").write_bytes(b"")
    (tmp_path / "constants.pkl").write_bytes(b"")
    assert "a folder in which no model was recognised (it holds constants.pkl, data.pkl)" in refusal(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    assert "model.safetensors: a folder in which no model was recognised" in refusal(tmp_path)
