"""How time grows with T, B, H and k, and what long and wide diagnoses take.

    python benchmarks/growth.py [--output benchmarks/growth.md] [--no-long]

Growth is the slope of log time against log size, by least squares over medians of CPU seconds on one thread. The long
and wide cases are whole diagnoses in processes of their own, with the peak of their memory beyond what they hold once
everything is imported (from ``/proc``, so on Linux), beside what was estimated.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from clock import Call, cpu_seconds, machine, table
from rich.console import Console

from rnndiag.bench import Bench
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.measuring_cost import cost, gemm_rate
from rnndiag.operators.lanczos import spectral_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.trajectory import run_layer

SIZES = {
    "T": [{"length": t} for t in (250, 500, 1000, 2000)],
    "B": [{"batch": b} for b in (4, 8, 16, 32)],
    "H": [{"hidden": h, "length": 40} for h in (128, 256, 512, 1024)],
    "k": [{"count": k, "hidden": 256, "length": 40} for k in (8, 16, 32, 64, 128)],
}
BASE = {"length": 250, "batch": 4, "hidden": 64, "count": 8}

MUST = {
    "step norms": {"T": "1", "B": "1", "H": "2, and Lanczos' steps"},
    "exponents": {"T": "1", "B": "1", "H": "2", "k": "1, factorisation 2"},
    "gradient through time": {"T": "1", "B": "1", "H": "2"},
    "whole diagnosis": {"T": "1", "B": "1", "H": "2 (spectrum of W: 3)"},
}
"""Slopes that the mathematics asks for once a size is large."""


def calls(length: int, batch: int, hidden: int, count: int) -> dict[str, Call]:
    model = RandomNet(hidden=hidden, sigma=1.2).build()
    (layer,) = model.stacks[0].layers
    probe = Probe(length=length, batch=batch)
    run = run_layer(layer, probe.inputs(model.stacks[0]))
    jacobian = run.along.state_jacobian

    def stream() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    return {
        "step norms": lambda: spectral_norms(jacobian, generator=stream()),
        "exponents": lambda: frame_growth(jacobian, count, [0, length], generator=stream()),
        "gradient through time": lambda: layer_adjoint(run, draws=4, generator=stream()),
        "whole diagnosis": partial(diagnose, model, probe, Settings(exponents=count, treat=False)),
    }


def growth() -> Iterator[tuple[str, ...]]:
    for axis, sizes in SIZES.items():
        name = {"T": "length", "B": "batch", "H": "hidden", "k": "count"}[axis]
        times: dict[str, list[float]] = {}
        for size in sizes:
            todo = {what: call for what, call in calls(**BASE | size).items() if axis in MUST[what]}
            for what, seconds in zip(todo, cpu_seconds(list(todo.values()), 3), strict=True):
                times.setdefault(what, []).append(seconds)
        values = [size[name] for size in sizes]
        for what, seconds in times.items():
            measured = ", ".join(f"{value}: {taken:.3g} s" for value, taken in zip(values, seconds, strict=True))
            last = math.log(seconds[-1] / seconds[-2]) / math.log(values[-1] / values[-2])
            slope = _slope(values, seconds)
            yield what, axis, measured, f"{slope:.2f} (last {last:.2f})", MUST[what][axis]


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    return statistics.linear_regression([math.log(s) for s in sizes], [math.log(t) for t in seconds]).slope


WHOLE = """
import json, re, sys, time, torch
from pathlib import Path
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
hidden, length, batch = (int(a) for a in sys.argv[1:])
torch.set_num_threads(1)
diagnose(RandomNet(hidden=8).build(), Probe(length=10, batch=2), Settings(treat=False))
before, cpu, clock = kilobytes("VmRSS"), time.process_time(), time.perf_counter()
diagnose(RandomNet(sigma=1.2, hidden=hidden).build(), Probe(length=length, batch=batch), Settings(treat=False))
print(json.dumps([time.process_time() - cpu, time.perf_counter() - clock, kilobytes("VmHWM") - before]))
"""


def whole(hidden: int, length: int, batch: int, goal: str, *, run: bool = True) -> tuple[str, ...]:
    settings = Settings(treat=False)
    stack = RandomNet(sigma=1.2, hidden=hidden).build().stacks[0]
    needs, rate = cost(Bench.of(stack, Probe(length=length, batch=batch), settings)), gemm_rate(settings)
    estimated = f"{needs.seconds(rate):.0f} s, {needs.memory / 2**30:.2f} GiB at {rate / 1e9:.0f} GFlop/s"
    what = f"H={hidden}, T={length}, B={batch}"
    if not run:
        return what, "not run", "-", estimated, goal
    sizes = [str(each) for each in (hidden, length, batch)]
    done = subprocess.run([sys.executable, "-c", WHOLE, *sizes], capture_output=True, check=True, text=True)
    cpu, clock, kilobytes = json.loads(done.stdout)
    return what, f"{cpu:.0f} s ({clock:.0f} s by the clock)", f"{kilobytes / 2**20:.2f} GiB", estimated, goal


def main(
    output: Annotated[Path | None, typer.Option(help="Also write the tables there, as Markdown.")] = None,
    long: Annotated[bool, typer.Option(help="Also run the long and the wide case.")] = True,
) -> None:
    """Measure, and print two tables."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    rows = []
    for row in growth():
        console.print(*row, markup=False)
        rows.append(row)
    text = table(("what", "in", "CPU seconds", "slope", "must be"), rows)
    cases = [
        partial(whole, 32, 10**6, 1, "120 s, 1 GB", run=long),
        partial(whole, 2048, 500, 4, "180 s, 2 GB", run=long),
        partial(whole, 8192, 100, 1, "an estimate", run=False),
    ]
    long_rows = [case() for case in cases]
    text += "\n" + table(("whole diagnosis, k=8", "CPU time", "peak memory", "estimated", "goal"), long_rows)
    text += f"\n{machine()}\n"
    typer.echo(text)
    if output is not None:
        title = "# Growth, length and width\n\nPrinted by `python benchmarks/growth.py`.\n\n"
        output.write_text(title + text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
