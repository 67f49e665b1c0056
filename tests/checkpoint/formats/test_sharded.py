"""Models in several files, split by huggingface_hub as transformers and others do."""

from __future__ import annotations

import json
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnndiag.checkpoint import load
from tests.builders.modules import MODULES, Net, assert_same_run

hub = pytest.importorskip("huggingface_hub", exc_type=ImportError)

INDEX = {True: "model.safetensors.index.json", False: "pytorch_model.bin.index.json"}


@pytest.fixture
def split(tmp_path):
    """Write a state_dict in shards of a kilobyte; the path of the index."""

    def to_files(state, *, safe=True):
        hub.save_torch_state_dict(state, tmp_path, max_shard_size=1000, safe_serialization=safe)
        assert len(list(tmp_path.iterdir())) > 3
        return tmp_path / INDEX[safe]

    return to_files


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm", "projected", "lstm_cell"])
def test_hidden_states(split, kind, safe):
    net = Net(nn.ModuleDict({"one": MODULES[kind](), "two": MODULES[kind]()}))
    model = load(split(net.double().state_dict(), safe=safe))
    assert [stack.name for stack in model.stacks] == ["rnn.one", "rnn.two"]
    for stack in model.stacks:
        assert_same_run(stack, net.rnn[stack.name.removeprefix("rnn.")])
    assert model.source.format == "sharded"
    assert {skipped.name for skipped in model.source.skipped} == {"norm", "head"}


@pytest.fixture
def two(tmp_path):
    """A GRU in two shards, and its index as a dict to be changed and written."""
    gru = nn.GRU(2, 3)
    index = {"metadata": {"total_size": 1}, "weight_map": {}}
    for i, names in enumerate((["weight_ih_l0", "weight_hh_l0"], ["bias_ih_l0", "bias_hh_l0"])):
        save_file({f"rnn.{name}": getattr(gru, name).detach() for name in names}, tmp_path / f"part{i}.safetensors")
        index["weight_map"] |= {f"rnn.{name}": f"part{i}.safetensors" for name in names}
    return gru, index


@pytest.fixture
def write(tmp_path):
    def to_file(index):
        path = tmp_path / "model.safetensors.index.json"
        path.write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())
        return path

    return to_file


def test_the_order_is_the_index_s_and_other_tensors_are_not_taken(two, write, tmp_path):
    gru, index = two
    save_file({"rnn.weight_hr_l0": torch.zeros(2, 2)}, tmp_path / "part2.safetensors")
    assert_same_run(load(write(index)).stacks[0], gru)


def test_a_missing_shard_is_named(two, write, refusal, tmp_path):
    path = write(two[1])
    (tmp_path / "part1.safetensors").unlink()
    assert "part1.safetensors is missing: copy all files" in refusal(path)


def test_a_shard_of_another_model_is_named(two, write, refusal, tmp_path):
    path = write(two[1])
    save_file({"rnn.bias_ih_l0": torch.zeros(9)}, tmp_path / "part1.safetensors")
    assert "part1.safetensors does not hold rnn.bias_hh_l0, which the index puts there" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "part1.safetensors: an empty file; expected safetensors, torch, torch-legacy"),
        (b"version https://git-lfs.github.com/spec/v1\n", "part1.safetensors: a Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{}", "part1.safetensors: cut short in its header"),
        (b"\x02\0\0\0\0\0\0\0{}abc", "part1.safetensors: Error while deserializing"),
    ],
)
def test_a_damaged_shard_is_named(two, write, refusal, tmp_path, content, words):
    path = write(two[1])
    (tmp_path / "part1.safetensors").write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "\0", "x" * 2000]
)
def test_names_that_are_no_files_of_the_folder(two, write, refusal, name):
    _, index = two
    index["weight_map"]["rnn.weight_ih_l0"] = name
    assert "expected the name of a file in the same folder" in refusal(write(index))


def test_links_that_lead_out_of_the_folder(two, write, refusal, tmp_path):
    path = write(two[1])
    part = tmp_path / "part1.safetensors"
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    part.rename(outside / part.name)
    part.symlink_to(outside / part.name)
    assert "part1.safetensors is a link that leads out of the folder" in refusal(path)
    part.unlink()
    (outside / part.name).rename(tmp_path / "real")
    part.symlink_to("real")
    assert load(path).stacks
    part.unlink()
    part.symlink_to(part.name)
    assert "link" in refusal(path).casefold()


def test_the_cache_of_the_hub_keeps_links(two, write, tmp_path):
    gru, index = two
    write(index)
    blobs, snapshot = tmp_path / "repo" / "blobs", tmp_path / "repo" / "snapshots" / "abc123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, name in enumerate([*dict.fromkeys(index["weight_map"].values()), INDEX[True]]):
        (tmp_path / name).rename(blobs / f"hash{i}")
        (snapshot / name).symlink_to(f"../../blobs/hash{i}")
    assert_same_run(load(snapshot / INDEX[True]).stacks[0], gru)


def test_a_pipe_is_not_waited_for(two, write, refusal, tmp_path):
    path = write(two[1])
    (tmp_path / "part1.safetensors").unlink()
    os.mkfifo(tmp_path / "part1.safetensors")
    assert "part1.safetensors: neither a regular file nor a folder" in refusal(path)


MANY = {"weight_map": {f"{i}": "part0.safetensors" for i in range(200_000)}}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"metadata": {}}, "missing required field `weight_map`"),
        ({"weight_map": []}, "Expected `object`, got `array`"),
        ({"weight_map": {"a": 3}}, "Expected `str`, got `int`"),
        (b'{"weight_map": {', "truncated"),
        (b'{"weight_map": ' * 100_000, "Expected `str`, got `object`"),
        (b'{"metadata": ' + b"[" * 10_000_000, "recursion"),
        (b'{"weight_map": {"\xff": "a"}}', "codec can't decode"),
        (MANY, "200,000 tensors in 1 shards"),
        ({"weight_map": {f"{i}": f"{i}.safetensors" for i in range(2000)}}, "2,000 shards"),
        ({"weight_map": {}}, "saw no tensors at all"),
        (b'{"metadata": "' + b" " * 2**26, "more than any model needs"),
        ({"weight_map": {"\x1b[2J": "\x1b[2J"}}, r"\x1b[2J is missing"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_hostile_indices(sandbox, refusal, write, two, index, words):
    path = write(index)
    outcome = sandbox(path)
    assert words in outcome["refused"]
    assert words in refusal(path)


@pytest.mark.parametrize("kind", ["pickle", "header", "members"])
def test_shards_that_are_all_heavy(sandbox, write, tmp_path, kind):
    """Each is read in a second; there are a thousand."""
    heavy = tmp_path / "heavy"
    state = {f"x{i}": torch.zeros(1) for i in range(1000)}
    if kind == "header":
        save_file(state | {f"{i}": torch.zeros(0) for i in range(50_000)}, heavy)
    else:
        torch.save(state | {"others": [None] * (2_000_000 if kind == "pickle" else 0)}, heavy)
    if kind == "members":
        with zipfile.ZipFile(heavy, "a") as archive:
            for i in range(30_000):
                archive.writestr(f"heavy/{i}", b"")
    for i in range(1000):
        (tmp_path / f"{i}").symlink_to("heavy")
    outcome = sandbox(write({"weight_map": {f"x{i}": f"{i}" for i in range(1000)}}))
    assert "more objects than any model needs" in outcome["refused"]
