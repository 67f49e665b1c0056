"""The command line as a process of its own, and what to wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.paths import ROOT

START_SECONDS = 200
"""The wait for an event that takes 20 s on an idle machine: a command imports torch and measures its first models."""

END_SECONDS = 40
"""The wait for a command to end after a signal: 4 s on an idle machine if its main thread does not answer."""


def shell(line: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Bash in which the first ``rnndiag`` is the command line.

    The exit code of a pipe is that of the last command in it that fails.
    """
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("rnndiag", f"{sys.executable} -m rnndiag", 1)],
        cwd=folder,
        env=_with_package(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def completed(
    *arguments: object, folder: Path | None = None, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a process of its own. Its streams are bytes."""
    return subprocess.run(
        [sys.executable, "-m", "rnndiag", *map(str, arguments)],
        cwd=folder,
        env=_with_package(environment),
        capture_output=True,
        input=stdin,
        timeout=START_SECONDS,
        check=False,
    )


def _with_package(environment: dict[str, str]) -> dict[str, str]:
    """This process's environment with some changes, in which any folder's Python finds this package."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **environment}


@contextmanager
def running(*command: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run Python in a session of its own, and kill it if it still runs at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], Any], seconds: float = START_SECONDS, pause: float = 0.05) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError("it did not happen")


def children(process: subprocess.Popen[str], of: str) -> list[psutil.Process]:
    """The processes below this one whose command line has these words in it. Fails if this one has ended."""
    if process.poll() is not None:
        raise AssertionError(f"it ended with {process.returncode} before: {process.communicate()}")
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            if of in " ".join(each.cmdline()):
                found.append(each)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def assert_all_end(processes: Iterable[psutil.Process]) -> None:
    """Fail unless all of these processes end within ``END_SECONDS``."""
    _, alive = psutil.wait_procs(list(processes), timeout=END_SECONDS)
    for each in alive:
        each.kill()
    assert not alive
