"""Options, signals and random numbers of the test run, and fixtures of several rooms: files, the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rnndiag import checkpoint
from rnndiag.__main__ import run
from rnndiag.checkpoint import Model
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import MAX_UNITS
from tests.builders.command_line import Cli, Done
from tests.builders.refusals import clean_line
from tests.fuzz.oracle import MIB

Save = Callable[..., Path]

CALLS_PER_UNIT = 11
"""The largest number of function calls per unit of ``WorkBudget``. No file here needs more than ten."""
FREE_CALLS = 5_000_000
"""Calls that no unit pays for: parts of a file whose length has limits of its own, such as lists of tensors. Code of
TorchScript takes the most, 4.2 million."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    """A shell that runs the tests in the background, and nohup, make every process that they start ignore signals."""
    del config
    for name, default in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """A net that a module draws when it is imported is the same in every run and in every order."""
    del collector
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A net that a test or its fixtures draw is the same in every run and in every order."""
    del item
    torch.manual_seed(0)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line in this process: its exit code and streams."""

    def call(*arguments: object) -> Done:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small classifier as a state_dict: an embedding, a GRU, a linear head."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(11, 4), "rnn": nn.GRU(4, 8), "fc": nn.Linear(8, 3)})
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save an object as torch would, and return the file's path."""

    def write(content: object, name: str = "model.pt", *, legacy: bool = False, **options: Any) -> Path:
        path = tmp_path / name
        torch.save(content, path, _use_new_zipfile_serialization=not legacy, **options)
        return path

    return write


@pytest.fixture
def reload(save: Save) -> Callable[..., Model]:
    """Save an object, then load it with rnndiag."""

    def both(content: object, *, nonlinearity: Any = None, **options: Any) -> Model:
        return checkpoint.load(save(content, **options), Answers(nonlinearity=nonlinearity))

    return both


@pytest.fixture
def refusal() -> Callable[[Path], str]:
    """The message for a bad file, held to be one clean line that names it."""

    def message(path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        return clean_line(caught.value, path)

    return message


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Load a file in a process of its own, and check that it took no more work and memory than any file may take.

    Work is counted in units of ``WorkBudget``, so that a slow or busy machine makes no difference. With ``share``, the
    file gets that part of the units only, and calls of functions are counted too: they show that the units stand for
    the work that is done.
    """
    temporary = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "tests.builders.sandbox", str(temporary)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"

        def load(path: Path, units: int) -> dict[str, Any]:
            process.stdin.write(json.dumps([str(path), units]) + "\n")
            process.stdin.flush()
            outcome: dict[str, Any] = json.loads(process.stdout.readline())
            assert "broken" not in outcome, outcome["broken"]
            return outcome

        def attempt(path: Path, *, share: int = 1) -> dict[str, Any]:
            outcome = load(path, MAX_UNITS // share)
            assert outcome["units"] <= MAX_UNITS // share
            assert outcome["mib"] < MIB
            if "calls" in outcome:
                assert outcome["calls"] <= FREE_CALLS + CALLS_PER_UNIT * outcome["units"]
            return outcome

        yield attempt
        process.stdin.close()
