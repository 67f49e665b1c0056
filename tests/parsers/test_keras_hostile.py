"""HDF5 files and Keras archives made to harm: one line, or the sound layer beside the attack, within bounds."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rnndiag.checkpoint import load
from tests.builders.keras_files import (
    a_group_for_a_dataset,
    archive_of,
    breadth,
    bulk,
    cell,
    compounds,
    depth,
    enormous,
    external_link,
    external_storage,
    hard_cycle,
    many_axes,
    model,
    never_written,
    nothing_at_all,
    other_numbers,
    partly_written,
    references,
    soft_cycle,
    texts,
    unknown_filter,
    virtual_dataset,
    wide_numbers,
    zeros,
)

h5py = pytest.importorskip("h5py")

PASSED_OVER = {
    external_link: "",
    external_storage: "its numbers are in another file, which is not opened",
    virtual_dataset: "its numbers are in another file, which is not opened",
    soft_cycle: "",
    hard_cycle: "its variables are not those of",
    references: "expected float16, bfloat16, float32 or float64, got object",
    never_written: "its shape takes 144 bytes, it has 0 in a file of",
    partly_written: "its shape takes 144 bytes, it has 48 in a file of",
    enormous: "its shape takes 32,000,000 bytes, it has 0 in a file of",
    zeros: "it unpacks to 256,000,000 bytes",
    unknown_filter: "damaged (Can't synchronously read data",
    other_numbers: "got int8",
    compounds: "expected float16, bfloat16, float32 or float64",
    wide_numbers: "got |V2000",
    texts: "got object",
    nothing_at_all: "its variables are not those of",
    many_axes: "its variables are not those of",
    a_group_for_a_dataset: "its variables are not those of",
}
"""What is said of the layer under attack; nothing where there is no layer left to speak of."""


def small(outcome):
    """It takes little memory."""
    assert outcome["mib"] < 100
    return outcome


@pytest.mark.parametrize("attack", PASSED_OVER, ids=lambda attack: attack.__name__)
def test_the_layer_beside_the_attack_is_read(sandbox, tmp_path, attack):
    path = tmp_path / "model.h5"
    with model(path) as group:
        attack(group, tmp_path)
    assert small(sandbox(path))["layers"] == ["lstm.l0"]
    said = {skipped.name: skipped.reason for skipped in load(path).source.skipped}
    assert PASSED_OVER[attack] in said.get("lstm_1", "")
    assert bool(PASSED_OVER[attack]) == ("lstm_1" in said)


@pytest.mark.parametrize("attack", [depth, breadth, bulk], ids=lambda attack: attack.__name__)
def test_groups_without_end_are_refused(sandbox, tmp_path, attack):
    path = tmp_path / "model.h5"
    with model(path, libver="latest") as group:
        attack(group, tmp_path)
    assert "more than any model's" in small(sandbox(path))["refused"]


def test_many_names_for_one_matrix(sandbox, tmp_path):
    """Megabytes that would become gigabytes."""
    path = tmp_path / "model.h5"
    with model(path) as group:
        held = cell(group, [np.ones((1, 4000), "f4"), np.ones((1000, 4000), "f4")])
        for i in range(2, 500):
            group.parent[f"lstm_{i}/cell/vars/0"] = held["0"]
            group.parent[f"lstm_{i}/cell/vars/1"] = held["1"]
    layers = sandbox(path)["layers"]
    assert len(layers) < 10


LONG = "x" * 100_000
CONFIGS = {
    "no model": "[1, 2, 3]",
    "a number": "7",
    "no JSON": "{",
    "nested": "[" * 100_000,
    "nested models": '{"class_name": "Sequential", "config": {"layers": [' * 300 + "]}}" * 300,
    "layers that are none": '{"class_name": "Sequential", "config": {"layers": [1, null, {}]}}',
    "classes that are none": '{"class_name": "Sequential", "config": {"layers": [{"class_name": [], "config": 3}]}}',
    "a long number": '{"class_name": ' + "9" * 100_000 + "}",
    "no number": '{"class_name": NaN, "config": {"layers": [Infinity]}}',
    "cells that are none": json.dumps(
        {
            "class_name": "Sequential",
            "config": {
                "layers": [
                    {"class_name": "RNN", "config": {"cell": 3, "name": {}}},
                    {
                        "class_name": "RNN",
                        "config": {"cell": {"class_name": "StackedRNNCells", "config": {"cells": 5}}},
                    },
                    {"class_name": "Bidirectional", "config": {"layer": {"class_name": 1}, "merge_mode": "{x}"}},
                    {"class_name": "LSTM", "config": {"activation": {"config": {"a": 1}}, "name": "{0}\x1b[2J\n"}},
                    {"class_name": "GRU", "config": {"recurrent_activation": LONG, "name": LONG}},
                    {"class_name": "TimeDistributed", "config": {"layer": {"class_name": "TimeDistributed"}}},
                    {"class_name": "Embedding", "config": {}},
                ]
            },
        }
    ),
    "code": json.dumps(
        {
            "class_name": "Sequential",
            "config": {"layers": [{"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}]},
        }
    ),
    "many layers": json.dumps(
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "LSTM", "config": {}}] * 20_000}}
    ),
}


@pytest.mark.parametrize("form", ["archive", "file"])
@pytest.mark.parametrize("config", CONFIGS)
def test_configurations_that_make_no_sense(sandbox, tmp_path, config, form):
    path = tmp_path / "model"
    with model(path) as group:
        group.file.attrs["model_config"] = CONFIGS[config]
    if form == "archive":
        archive_of(path, CONFIGS[config], path.read_bytes())
    outcome = small(sandbox(path))
    assert outcome.get("refused", "").isprintable()
    assert len(outcome.get("refused", "")) < 2000


ATTRIBUTES = {
    "many names": {"layer_names": np.zeros(10**6, "S9")},
    "long names": {"layer_names": np.array([b"x" * 10**6] * 40)},
    "numbers": {"layer_names": np.arange(5)},
    "names of elsewhere": {"layer_names": ["..", ".", "/", "a/../..", "", "x" * 10**5]},
}


@pytest.mark.parametrize("attack", ATTRIBUTES)
def test_attributes_without_end_or_sense(sandbox, tmp_path, attack):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", libver="latest") as file:
        cell(file.create_group("layers/lstm"))
        for name, value in ATTRIBUTES[attack].items():
            file.attrs[name] = value
    small(sandbox(path))


def test_no_filter_is_loaded_from_the_environment(tmp_path, monkeypatch):
    """A filter is code; it would run as soon as libhdf5 looked at the file that asks for it."""
    if not shutil.which("cc"):
        pytest.skip("no compiler")
    path, target, plugins = tmp_path / "model.h5", tmp_path / "ran", tmp_path / "plugins"
    with model(path) as group:
        unknown_filter(group, tmp_path)
    plugins.mkdir()
    source = f'#include <fcntl.h>\n__attribute__((constructor)) void run() {{ creat("{target}", 0600); }}\n'
    (tmp_path / "filter.c").write_text(source, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", plugins / "libfilter.so", tmp_path / "filter.c"], check=True)
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(plugins))
    assert [stack.name for stack in load(path).stacks] == ["lstm"]
    assert not target.exists()
    read = f"import h5py\ntry: h5py.File({str(path)!r})['layers/lstm_1/cell/vars/1'][()]\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", read], check=True)
    assert target.exists()  # or nothing was shown


class TestArchives:
    @pytest.fixture
    def weights(self, tmp_path):
        with model(tmp_path / "weights.h5"):
            pass
        return (tmp_path / "weights.h5").read_bytes()

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_the_plain_archive_is_read(self, sandbox, tmp_path, weights, method):
        path = archive_of(tmp_path / "model.keras", "{}", weights, compression=method)
        assert sandbox(path)["layers"] == ["lstm.l0"]

    @pytest.mark.parametrize("member", ["config", "weights"])
    def test_members_that_unpack_without_end(self, sandbox, tmp_path, weights, member):
        bomb = b" " * (200 << 20)
        content = {"config": "{}", "weights": weights} | {member: bomb}
        path = archive_of(tmp_path / "model.keras", **content, compression=zipfile.ZIP_DEFLATED)
        assert "unpacks to 209,715,200 bytes" in small(sandbox(path))["refused"]

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_packings(self, sandbox, tmp_path, weights, method):
        path = archive_of(tmp_path / "model.keras", "{}", weights, compression=method)
        assert "packed otherwise than by deflation" in sandbox(path)["refused"]

    def test_damaged_numbers_are_noticed(self, sandbox, tmp_path, weights):
        path = archive_of(tmp_path / "model.keras", "{}", weights)
        data = bytearray(path.read_bytes())
        data[data.index(np.ones(3, "f4").tobytes())] ^= 1
        path.write_bytes(data)
        assert "another CRC-32" in sandbox(path)["refused"]

    def test_a_member_elsewhere(self, sandbox, tmp_path, weights):
        path = archive_of(tmp_path / "model.keras", "{}", weights)
        data = bytearray(path.read_bytes())
        at = data.rindex(b"model.weights.h5") - 46
        data[at + 42 : at + 46] = struct.pack("<L", 1)
        path.write_bytes(data)
        assert "refused" in sandbox(path)


def test_other_hdf5_files_are_no_models(refusal, tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w", userblock_size=2048) as file:
        file["measurements"] = np.zeros((9, 9))
    assert "an HDF5 file in which Keras wrote no weights: it holds measurements; if these are" in refusal(path)


def test_nothing_is_written(tmp_path):
    path = tmp_path / "model.h5"
    with model(path):
        pass
    before = path.read_bytes()
    path.chmod(0o400)
    load(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_takes_libhdf5_minutes(sandbox):
    """Found by fuzzing: damage in a heap makes the library search it over and over."""
    found = Path(__file__).parent / "found" / "slow.h5"
    assert "it took longer than 20 s to parse" in sandbox(found)["refused"]
