"""``python -m tests.builders.sandbox FOLDER``: load files named on stdin, each in a fork, and count what they take.

Python's audit is watched: nothing but the package's own parsers may be started, nothing imported or compiled that is
not installed, nothing written but temporary copies in FOLDER, of which none may stay behind.
"""

from __future__ import annotations

import contextlib
import cProfile
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Final

import safetensors.torch  # noqa: F401  # imported by the readers on first use

import rnndiag.checkpoint
from rnndiag.errors import CheckpointError
from rnndiag.files.work_budget import MAX_UNITS, WorkBudget
from tests.fuzz.oracle import Watch, check_words, hold
from tests.paths import ROOT

ADDRESSES: Final = 3 << 30
"""Bytes of address space beyond what the process has: mapped files count, though they take no memory."""
SEEDS: Final = ROOT / "tests" / "fuzz" / "seeds"
SOUND: Final = (
    "torch-legacy/rnn", "torch-legacy/parametrised", "torch-zip-raw/module", "torchscript-raw/rnn", "torch-export/rnn",
    "plain-pickle/arrays-0", "npz/rnn", "safetensors/rnn", "tar/pax", "zip/lzma", "index/rnn", "onnx/LSTM",
    "keras/net.keras",
)  # fmt: skip
"""Read beforehand: libraries import some of their own modules on first use."""
CPU_SECONDS: Final = 50
"""Seconds of computing after which a file counts as one that hangs: almost ten times what the slowest takes
(benchmarks/hostile.md, on a busy machine). A parser's process has its own limit. The sharp limits are counted."""
WALL_SECONDS: Final = 500
"""The same for a file that hangs without computing, on a machine that has ten other things to do."""


def main(folder: Path) -> None:
    """A line of JSON out for each line of JSON in: a path, and the units of a budget.

    Where there are fewer than usual, calls are counted too, which makes each of them several times slower.
    """
    for seed in SOUND:
        with contextlib.suppress(CheckpointError):  # the index's shards are elsewhere
            rnndiag.checkpoint.load(SEEDS / seed)
    with tempfile.TemporaryDirectory() as hub:
        shutil.copy(SEEDS / "safetensors" / "rnn", Path(hub) / "model.safetensors")
        (Path(hub) / "config.json").write_text('{"nonlinearity": "relu"}', encoding="utf-8")
        rnndiag.checkpoint.load(hub)
    watch = Watch(folder)
    tempfile.tempdir = str(folder)
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    print("ready", flush=True)
    for line in sys.stdin:
        path, units = json.loads(line)
        if os.fork() == 0:
            resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESSES,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1]))
            signal.alarm(WALL_SECONDS)
            made = _record_budgets(units)
            profile = cProfile.Profile() if units < MAX_UNITS else None
            outcome = _attempt(path, watch, folder, profile)
            outcome["units"] = sum(units - max(each.left, 0) for each in made)
            if profile is not None:
                outcome["calls"] = sum(entry.callcount for entry in profile.getstats())
            print(json.dumps(outcome), flush=True)
            os._exit(0)
        status = os.wait()[1]
        if status:
            print(json.dumps({"broken": f"killed: wait status {status}"}), flush=True)


def _record_budgets(units: int) -> list[WorkBudget]:
    """Make every budget of this process one of at most ``units``, and add it to the list that is returned."""
    made: list[WorkBudget] = []
    make = WorkBudget.__init__

    def record(self: WorkBudget, wanted: int = MAX_UNITS) -> None:
        make(self, min(wanted, units))
        made.append(self)

    WorkBudget.__init__ = record  # type: ignore[method-assign]
    return made


def _attempt(path: str, watch: Watch, folder: Path, profile: cProfile.Profile | None) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, parsers = _seconds(), _seconds(resource.RUSAGE_CHILDREN)
    watch.armed = True
    try:
        with profile or contextlib.nullcontext():
            model = rnndiag.checkpoint.load(path)
        check_words(model)
        outcome["layers"] = [layer.name for stack in model.stacks for layer in stack.layers]
    except CheckpointError as error:
        outcome["refused"] = str(error)
    except BaseException:
        outcome["broken"] = traceback.format_exc()
    watch.armed = False
    outcome["parsers"] = _seconds(resource.RUSAGE_CHILDREN) - parsers
    outcome["seconds"] = _seconds() - start + outcome["parsers"]
    outcome["mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    message = outcome.get("refused", f"{path}: ")
    try:
        hold(message.startswith(f"{path}: ") and message.isprintable(), f"no line that names the file: {message!r}")
        hold(len(message) < 2000, f"a line of {len(message)} characters: {message[:200]}")
        hold(not watch.seen, f"it acts: {watch.seen}")
        hold(not any(folder.iterdir()), "it leaves a copy behind")
    except AssertionError as error:
        outcome.setdefault("broken", str(error))
    return outcome


def _seconds(who: int = resource.RUSAGE_SELF) -> float:
    """The computing time in seconds, here or in the parsers' processes; other processes may share the core."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(Path(sys.argv[1]))
