"""The exit code depends on the work, not on the state of stdout and stderr."""

from __future__ import annotations

import fcntl
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rnndiag.cli.streams import SIZE_LIMITS, limit_terminal_size
from tests.builders.processes import completed, shell
from tests.paths import SAMPLES

QUICK = "--T 64 --batch 2 --exponents 1 --no-treat"
NOISE = ("Traceback", "Exception ignored", "a bug in rnndiag")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that vanishes, another that is worse, and a run that ends in NaN."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    state = nn.RNN(2, 8).state_dict()
    for name, scale in (("sick", 0.3), ("worse", 0.001)):
        torch.save({key: scale * tensor for key, tensor in state.items()}, folder / f"{name}.pt")
    healthy = torch.load(SAMPLES / "healthy_tanh.pt", weights_only=True)
    for step, factor in enumerate((1.0, 1.0001, math.nan)):
        torch.save({key: factor * tensor for key, tensor in healthy.items()}, folder / f"run{step}.pt")
    (folder / "unreadable.pt").write_bytes(b"nothing")
    return folder


CHECK, COMPARE = f"rnndiag check sick.pt {QUICK}", f"rnndiag compare sick.pt worse.pt --fail-on info {QUICK}"
TREND = f"rnndiag trend run0.pt run1.pt run2.pt {QUICK.replace(' --no-treat', '')} --fail-on error"
UNREADABLE = f"rnndiag check unreadable.pt sick.pt {QUICK}"
GATES = {"check": CHECK, "compare": COMPARE.replace(" --no-treat", ""), "trend": TREND}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("format_", ["table", "json"])
def test_a_reader_that_leaves_does_not_change_the_code(models: Path, gate: str, format_: str) -> None:
    done = shell(f"{GATES[gate]} --format {format_} | head -0", models)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("gate", GATES)
def test_results_that_could_not_be_written_are_an_error(models: Path, gate: str) -> None:
    done = shell(f"{GATES[gate]} > /dev/full", models)
    assert done.returncode == 2  # the larger of 1 and 2
    assert done.stderr == "rnndiag: error: the results could not be written to stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{CHECK} --format jsonl | head -0", 1),  # results are written as they come
        (f"{CHECK} --format jsonl > /dev/full", 2),
        (f"{CHECK} >&-", 1),  # a caller that closes a stream does not need its text
        (f"{CHECK} 2>&-", 1),
        (f"{CHECK} >&- 2>&- <&-", 1),
        (f"{CHECK} 2> /dev/full", 1),
        (f"{CHECK} > /dev/full 2> /dev/full", 2),
        (f"{UNREADABLE} 2>&1 > /dev/null | head -0", 2),
        (f"{UNREADABLE} 2> /dev/full", 2),
        (f"{UNREADABLE} 2>&-", 2),
        (f"{UNREADABLE} --verbose --workers 2 2> /dev/full | head -0", 2),
        (f"rnndiag inspect sick.pt {QUICK} --verbose | head -1", 0),
        ("rnndiag check --nonsense 2> /dev/full", 2),
        ("rnndiag check --help | head -0", 0),
        ("rnndiag check --help > /dev/full", 2),
        ("rnndiag --version > /dev/full", 2),
        ("rnndiag schema | head -c 5", 0),
        ("rnndiag rules --format json > /dev/full 2>&-", 2),
    ],
)
def test_codes(models: Path, command: str, code: int) -> None:
    done = shell(command, models)
    assert done.returncode == code
    assert not [word for word in NOISE if word in done.stderr + done.stdout]


def test_other_files_are_written_when_the_reader_of_stdout_has_gone(models: Path, tmp_path: Path) -> None:
    done = shell(f"{CHECK} --format table --format json={tmp_path / 'out.json'} | head -0", models)
    assert done.returncode == 1
    assert json.loads((tmp_path / "out.json").read_text())["verdict"] == "vanishing"


def test_a_stream_nobody_reads_ends_a_run_that_is_not_a_gate(models: Path) -> None:
    """Nobody would read the results of the other models. A gate continues, because it must determine its exit code."""
    command = [sys.executable, "-m", "rnndiag", "inspect", "sick.pt", "unreadable.pt", *QUICK.split()]
    reading, writing = os.pipe()
    os.close(reading)
    for more, code in ((["--format", "jsonl"], 0), (["--format", "jsonl", "--format", "json=/dev/null"], 2)):
        done = subprocess.run([*command, *more], cwd=models, stdout=writing, stderr=subprocess.PIPE, check=False)
        assert done.returncode == code
    os.close(writing)


def test_a_full_pipe_that_does_not_block_is_waited_for(models: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "rnndiag", "schema"]
    with subprocess.Popen(command, cwd=models, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert json.loads(pipe.read())["title"] == "rnndiag report"
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


SIZES = ["99999999999999999999", "9" * 5000, "0", "-1", "abc", "", "²", " 80", "1", "65536", "1e3", "80"]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size[:20])
@pytest.mark.parametrize("name", SIZE_LIMITS)
def test_the_size_of_the_terminal_is_within_limits(monkeypatch: pytest.MonkeyPatch, name: str, size: str) -> None:
    monkeypatch.setenv(name, size)
    limit_terminal_size()
    smallest, largest = SIZE_LIMITS[name]
    assert name not in os.environ or smallest <= int(os.environ[name]) <= largest
    if size == "80":
        assert os.environ[name] == "80"


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "1"], ids=lambda size: size[:20])
def test_tables_and_help_are_drawn_within_the_limits(models: Path, size: str) -> None:
    """typer reads the size of the terminal once, when it is imported."""
    for command, code in (("rnndiag check --help", 0), (CHECK, 1)):
        done = shell(command, models, COLUMNS=size, LINES=size, TERMINAL_WIDTH=size)
        assert (done.returncode, done.stderr) == (code, "")
        assert 5 < max(map(len, done.stdout.splitlines())) <= SIZE_LIMITS["COLUMNS"][1]


ENVIRONMENTS = [
    {"TERM": "nonsense", "COLORTERM": "x", "NO_COLOR": "0"},
    {"TERM": "", "FORCE_COLOR": "", "TTY_COMPATIBLE": "x", "TTY_INTERACTIVE": "x"},
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii:strict", "TYPER_USE_RICH": "maybe"},
    {"PYTHONIOENCODING": "latin-1", "PYTHONUNBUFFERED": "1", "CI": "maybe", "GITHUB_ACTIONS": "x"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: next(iter(each.values())) or "empty")
def test_odd_environments(models: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "Größe 重み.pt"
    path.write_bytes((models / "sick.pt").read_bytes())
    for format_ in ("table", "json"):
        done = completed("check", path, *QUICK.split(), "--format", format_, **environment)
        assert (done.returncode, done.stderr) == (1, b"")
        if format_ == "json":  # JSON, whatever the encoding; where file names are ASCII, this one has bytes
            assert os.fsencode(json.loads(done.stdout)["source"]["path"]) == os.fsencode(path)
