"""The command line as a process of its own, and what to wait for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

START_SECONDS = 200
"""The wait for an event that takes 20 s on an idle machine: a command imports torch and measures its first models."""

END_SECONDS = 40
"""The wait for a command to end after a signal: 4 s on an idle machine if its main thread does not answer."""


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
    """The processes below this one whose command line has these words in it."""
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
