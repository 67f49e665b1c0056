"""What the benchmarks share: CPU seconds of calls taken in turn, tables, and the machine's name."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch

Call = Callable[[], object]


def cpu_seconds(calls: Sequence[Call], repeats: int) -> list[float]:
    """Median CPU seconds of each call, all in turn, after one turn that does not count.

    On one thread CPU time is what the clock would show on an idle machine, but for caches that others empty.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, times in zip(calls, seconds, strict=True):
            start = time.process_time()
            call()
            if turn:
                times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def machine() -> str:
    """Date, processor, threads, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return (
        f"{date.today().isoformat()}, {next(names, platform.processor())}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}, float64."
    )
