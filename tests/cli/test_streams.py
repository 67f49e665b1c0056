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

from rnndiag.cli.streams import SIZE_LIMITS

RNNDIAG = f"{sys.executable} -m rnndiag"
QUICK = "--T 64 --batch 2 --exponents 1 --no-treat"
SAMPLES = Path(__file__).parents[2] / "sample_models"
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


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command_line = ["bash", "-o", "pipefail", "-c", command]
    given = {**os.environ, **environment}
    return subprocess.run(command_line, cwd=folder, env=given, capture_output=True, text=True, check=False)


CHECK, COMPARE = f"{RNNDIAG} check sick.pt {QUICK}", f"{RNNDIAG} compare sick.pt worse.pt --fail-on info {QUICK}"
TREND = f"{RNNDIAG} trend run0.pt run1.pt run2.pt {QUICK.replace(' --no-treat', '')} --fail-on error"
UNREADABLE = f"{RNNDIAG} check unreadable.pt sick.pt {QUICK}"
GATES = {"check": CHECK, "compare": COMPARE.replace(" --no-treat", ""), "trend": TREND}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("format_", ["table", "json"])
def test_a_reader_that_leaves_takes_no_code_with_it(models: Path, gate: str, format_: str) -> None:
    done = shell(f"{GATES[gate]} --format {format_} | head -0", models)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("gate", GATES)
def test_results_that_could_not_be_written_are_an_error(models: Path, gate: str) -> None:
    done = shell(f"{GATES[gate]} > /dev/full", models)
    assert done.returncode == 2  # the worse of 1 and 2
    assert done.stderr == "rnndiag: error: the results could not be written to stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{CHECK} --format jsonl | head -0", 1),  # results are written as they come
        (f"{CHECK} --format jsonl > /dev/full", 2),
        (f"{CHECK} >&-", 1),  # who closes a stream wants nothing of it
        (f"{CHECK} 2>&-", 1),
        (f"{CHECK} >&- 2>&- <&-", 1),
        (f"{CHECK} 2> /dev/full", 1),
        (f"{CHECK} > /dev/full 2> /dev/full", 2),
        (f"{UNREADABLE} 2>&1 > /dev/null | head -0", 2),
        (f"{UNREADABLE} 2> /dev/full", 2),
        (f"{UNREADABLE} 2>&-", 2),
        (f"{UNREADABLE} --verbose --workers 2 2> /dev/full | head -0", 2),
        (f"{RNNDIAG} inspect sick.pt {QUICK} --verbose | head -1", 0),
        (f"{RNNDIAG} check --nonsense 2> /dev/full", 2),
        (f"{RNNDIAG} check --help | head -0", 0),
        (f"{RNNDIAG} check --help > /dev/full", 2),
        (f"{RNNDIAG} --version > /dev/full", 2),
        (f"{RNNDIAG} schema | head -c 5", 0),
        (f"{RNNDIAG} rules --format json > /dev/full 2>&-", 2),
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


def test_a_stream_nobody_reads_ends_a_run_that_is_no_gate(models: Path) -> None:
    """Otherwise a fleet would be measured for nobody. A gate goes on, because it must determine its exit code."""
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
def test_the_size_of_the_terminal_is_within_limits(models: Path, size: str) -> None:
    widest = SIZE_LIMITS["COLUMNS"][1]
    for command in ("rules", "check --help"):
        done = shell(f"{RNNDIAG} {command}", models, COLUMNS=size, LINES=size, TERMINAL_WIDTH=size)
        assert (done.returncode, done.stderr) == (0, "")
        assert 5 < max(map(len, done.stdout.splitlines())) <= widest
    if size in SIZES[:4]:
        done = shell(CHECK, models, COLUMNS=size, LINES=size)
        assert (done.returncode, done.stderr) == (1, "")


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
    command_line = [sys.executable, "-m", "rnndiag", "check", str(path), *QUICK.split()]
    given = {**os.environ, **environment}
    for format_ in ("table", "json", "junit"):
        done = subprocess.run([*command_line, "--format", format_], env=given, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (1, b"")
        if format_ == "json":  # JSON, whatever the encoding; where file names are ASCII, this one has bytes
            assert os.fsencode(json.loads(done.stdout)["source"]["path"]) == os.fsencode(path)
