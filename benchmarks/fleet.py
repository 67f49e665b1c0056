"""Many models: seconds, memory, what a task costs beside its work, what a cached report costs.

    python benchmarks/fleet.py --output benchmarks/fleet.md

The models are Elman nets of H = 128 at T = 100 and 16 sequences. The alternative to --workers is one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch

from rnndiag.fleet.executors import InProcess, cluster
from rnndiag.fleet.job import Job
from rnndiag.fleet.lines import line
from rnndiag.fleet.processes import processes
from rnndiag.fleet.run import measure
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet, checkpoint

HIDDEN = 128

RUN = """
import json, resource, sys, time
from rnndiag.__main__ import run
start = time.perf_counter()
code = run(sys.argv[1:])
seconds = time.perf_counter() - start
uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
with open("/proc/self/status") as status:  # getrusage's own peak would be the parent's where that is larger
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
print(json.dumps({"code": code, "seconds": seconds, "cpu": sum(u.ru_utime + u.ru_stime for u in uses),
                  "mib": peak / 1024, "worker_mib": uses[1].ru_maxrss / 1024}))
"""


def run(*arguments: object) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    assert measured["code"] == 0, done.stderr
    return measured


def write(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    paths = []
    for i in range(count):
        path = folder / f"step{i:06}.pt"
        torch.save(checkpoint(RandomNet("tanh", HIDDEN, sigma=0.5 + 1.5 * i / count, seed=i)), path)
        paths.append(str(path))
    return paths


class Ready:
    """Work that is none: the report is there already."""

    def __init__(self, report: Any) -> None:
        self._report = report

    def report(self, path: str, progress: Any = None) -> Any:
        return self._report


def per_model(report: Any, executor: Executor, slots: int, most: int, count: int) -> tuple[float, float]:
    """Seconds of the clock, and of this process's computing, that a model costs beside its measurement."""
    paths = [f"model{i}" for i in range(count)]
    for _ in measure(paths[: 8 * slots], Ready(report), executor, slots=slots, max_paths=1):
        pass  # every process has started
    start, used = time.perf_counter(), time.process_time()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        for outcome in measure(paths, Ready(report), executor, slots=slots, max_paths=most):
            nowhere.write(line(outcome.path, outcome.result))
    return (time.perf_counter() - start) / count, (time.process_time() - used) / count


@contextmanager
def workers_of_a_cluster(folder: Path, count: int) -> Iterator[str]:
    told = folder / "scheduler.json"
    common = ["--no-dashboard", "--scheduler-file", str(told)]
    serve = ["scheduler", "--host", "127.0.0.1", "--port", "0"]
    work = ["worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = []
    try:
        for kind, *options in (serve, *[work] * count):
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *common]
            started.append(subprocess.Popen(command, **quiet))
        while not told.exists() or not told.read_text():
            time.sleep(0.1)
        time.sleep(5)
        yield json.loads(told.read_text())["address"]
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write(folder / "models", given.models)
        write(folder / "few", given.few)
        out = ("--no-treat", "--format", f"jsonl={folder / 'out.jsonl'}")
        few = run("inspect", folder / "few", *out, "--workers", 2)
        one = run("inspect", folder / "models", *out)
        two = run("inspect", folder / "models", *out, "--workers", 2, "--cache", folder / "cache")
        hits = run("inspect", folder / "models", *out, "--cache", folder / "cache")
        report = Job(Probe()).report(paths[0])
        overheads = [("this process", 1, *per_model(report, InProcess(), 1, 1, 2000))]
        with processes(2) as pool:
            overheads += [("2 processes", most, *per_model(report, pool, 2, most, 4000)) for most in (1, 16)]
        with workers_of_a_cluster(folder, 2) as address, cluster(address) as (executor, slots):
            overheads += [
                ("2 workers of dask", most, *per_model(report, executor, slots, most, 2000)) for most in (1, 16)
            ]
    where = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} over the last 5 minutes"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    text = f"""# Many models

`python benchmarks/fleet.py --models {given.models} --few {given.few}`, {date.today()}, {where}, {versions};
Elman nets of H = {HIDDEN}, T = 100, 16 sequences, `rnndiag inspect --no-treat --format jsonl=FILE`; MiB at their peak.

| models | by | seconds | models/s | core seconds a model | MiB, this process | MiB, a worker |
|---|---|---|---|---|---|---|
{row(given.models, "one process", one)}
{row(given.models, "--workers 2, filling a cache", two)}
{row(given.few, "--workers 2", few)}
{row(given.models, "one process, all from the cache", hits)}

Two processes are {one["seconds"] / two["seconds"]:.2f} times as fast as one.

What a model costs beside its measurement, its report handed over and written as a line:

| by | paths a task | milliseconds a model | of computing in the process that hands out |
|---|---|---|---|
{chr(10).join(f"| {by} | {most} | {1e3 * wall:.2f} | {1e3 * own:.2f} |" for by, most, wall, own in overheads)}
"""
    text += plan(one["cpu"] / given.models, {(by, most): own for by, most, _, own in overheads}, report)
    print(text)
    if given.output is not None:
        given.output.write_text(text, encoding="utf-8")


MILLION = 1_000_000


def plan(core_seconds: float, own: dict[tuple[str, int], float], report: Any) -> str:
    """On paper: cores share the measuring, one process hands out and takes in; the slower of the two sets the pace."""
    rows = []
    for cores, by in ((2, "2 processes"), (32, "2 processes"), (32, "2 workers of dask"), (256, "2 workers of dask")):
        each, handed = MILLION * core_seconds / cores / 3600, MILLION * own[by, 16] / 3600
        limit = "measuring" if each > handed else "handing out"
        rows.append(
            f"| {cores} | {by.removeprefix('2 ')} | {each:.1f} | {handed:.1f} | {max(each, handed):.1f} | {limit} |"
        )
    size = len(line("model000000.pt", report)) * MILLION / 1e9
    return f"""
On paper, 1,000,000 such models in tasks of 16 paths, {core_seconds:.3f} core seconds each, and {size:.0f} GB of lines:

| cores | by | hours of measuring | of handing out | hours in all | bound by |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def row(models: int, by: str, run: dict[str, float]) -> str:
    seconds, mib = run["seconds"], f"{run['mib']:.0f}"
    worker = f"{run['worker_mib']:.0f}" if "workers" in by else "-"
    return (
        f"| {models} | {by} | {seconds:.1f} | {models / seconds:.1f} | {run['cpu'] / models:.4f} | {mib} | {worker} |"
    )


if __name__ == "__main__":
    main()
