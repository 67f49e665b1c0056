from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from rnndiag import checkpoint
from rnndiag.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rnndiag.checkpoint import Model

    Save = Callable[..., Path]


collect_ignore_glob = [] if importlib.util.find_spec("onnx") else ["test_onnx*.py"]
"""Tests of formats whose libraries are not installed."""


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
        return checkpoint.load(save(content, **options), nonlinearity=nonlinearity)

    return both


@pytest.fixture
def refusal() -> Callable[[Path], str]:
    """The message for a bad file, held to be one clean line that names it."""

    def message(path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert text.isprintable()
        assert len(text) < 2000
        return text

    return message


_SANDBOX = """
import json, os, resource, signal, sys, time, traceback
import torch, rnndiag.checkpoint
from rnndiag.errors import CheckpointError

MIB = 2**20
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
print("ready", flush=True)
for line in sys.stdin:
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_AS, (used + 3072 * MIB,) * 2)
        signal.alarm(20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        try:
            model = rnndiag.checkpoint.load(json.loads(line))
            outcome = {"layers": [layer.name for stack in model.stacks for layer in stack.layers]}
        except CheckpointError as error:
            outcome = {"refused": str(error)}
        except BaseException:
            outcome = {"escaped": traceback.format_exc()}
        outcome["seconds"] = time.process_time() - start  # of this process: others may share its core
        outcome["mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps(outcome), flush=True)
        os._exit(0)
    status = os.wait()[1]
    if status:
        print(json.dumps({"escaped": f"killed: wait status {status}"}), flush=True)
"""


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Load a file in a process of its own, under limits of memory and time, and tell what came of it."""
    with subprocess.Popen(
        [sys.executable, "-c", _SANDBOX], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"

        def attempt(path: Path) -> dict[str, Any]:
            process.stdin.write(json.dumps(str(path)) + "\n")
            process.stdin.flush()
            outcome: dict[str, Any] = json.loads(process.stdout.readline())
            assert "escaped" not in outcome, outcome["escaped"]
            assert outcome["seconds"] < 5
            assert outcome["mib"] < 500
            return outcome

        yield attempt
        process.stdin.close()
