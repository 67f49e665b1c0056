"""``python -m tests.checkpoint.sandbox FOLDER``: load files named on stdin, each in a fork, and hold it to its limits.

Python's audit is watched: nothing but the package's own parsers may be started, nothing imported or compiled that is
not installed, nothing written but temporary copies in FOLDER, of which none may stay behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Final

import safetensors.torch  # noqa: F401  # imported by the readers on first use

import rnndiag.checkpoint
from rnndiag.errors import CheckpointError
from tests.fuzz.oracle import Watch, check_words, hold

ADDRESSES: Final = 3 << 30
"""Bytes of address space beyond what the process has: mapped files count, though they take no memory."""
SEEDS: Final = Path(__file__).parent.parent / "fuzz" / "seeds"
SOUND: Final = (
    "torch-legacy/rnn", "torch-legacy/parametrised", "torch-zip-raw/module", "torchscript-raw/rnn", "torch-export/rnn",
    "npz/rnn", "safetensors/rnn", "tar/pax", "zip/lzma", "index/rnn",
)  # fmt: skip
"""Read beforehand: libraries import some of their own modules on first use."""
WAIT: Final = 100
"""Seconds until a file that hangs is given up; of what it computes, the caller has other limits."""


def main(folder: Path) -> None:
    """A line of JSON out for each line of JSON in."""
    for seed in SOUND:
        with contextlib.suppress(CheckpointError):  # the index's shards are elsewhere
            rnndiag.checkpoint.load(SEEDS / seed)
    watch = Watch(folder)
    tempfile.tempdir = str(folder)
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESSES,) * 2)
            signal.alarm(WAIT)
            print(json.dumps(_attempt(json.loads(line), watch, folder)), flush=True)
            os._exit(0)
        status = os.wait()[1]
        if status:
            print(json.dumps({"broken": f"killed: wait status {status}"}), flush=True)


def _attempt(path: str, watch: Watch, folder: Path) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = _seconds()
    watch.armed = True
    try:
        model = rnndiag.checkpoint.load(path)
        check_words(model)
        outcome["layers"] = [layer.name for stack in model.stacks for layer in stack.layers]
    except CheckpointError as error:
        outcome["refused"] = str(error)
    except BaseException:
        outcome["broken"] = traceback.format_exc()
    watch.armed = False
    outcome["seconds"] = _seconds() - start
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


def _seconds() -> float:
    """Of computing, here and in the parsers' processes: others may share the core."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main(Path(sys.argv[1]))
