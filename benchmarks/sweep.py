"""A phase diagram of 26 x 10 points against ``simulate`` point by point, in one run on the same machine.

    python benchmarks/sweep.py [--output benchmarks/sweep.md]

H=128, T=200, B=16, three nets a point and the critical sigma of each input scale, on two threads. ``simulate`` measures
more of a net than a sweep needs; beside it stands what of its work is the sweep's own: the states, their
linearisation and the gradient of one net at a time. Both are timed on a sample of the points, in one process and on
one thread, and scaled to all nets.
"""

from __future__ import annotations

import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from rnndiag import api
from rnndiag.config import Settings
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.seeds import generator
from rnndiag.trajectory import run_layer

AXES = {"sigma": "0.5:3:26", "input_scale": "0.01:2:10log", "hidden": 128, "length": 200}
NETS, THREADS, SAMPLE = 3, 2, 12
GOAL = 30.0


def sampled() -> list[RandomNet]:
    return [RandomNet(sigma=0.5 + 2.5 * i / (SAMPLE - 1), input_scale=0.5, seed=i % NETS) for i in range(SAMPLE)]


def by_simulate() -> None:
    for net in sampled():
        api.simulate(net, length=200, settings=Settings(seed=net.seed))


def one_by_one() -> None:
    for net in sampled():
        (stack,) = net.build().stacks
        run = run_layer(stack.layers[0], Probe(length=200, seed=net.seed).inputs(stack))
        layer_adjoint(run, draws=4, generator=generator(net.seed, "gradient"))


def main(output: Annotated[Path | None, typer.Option()] = None) -> None:
    torch.set_num_threads(1)
    by_simulate()  # what the first call of anything costs is nobody's
    started = time.perf_counter()
    by_simulate()
    each = (time.perf_counter() - started) / SAMPLE
    started = time.perf_counter()
    one_by_one()
    alone = (time.perf_counter() - started) / SAMPLE
    used, started = os.times(), time.perf_counter()
    found = api.sweep(AXES, nets=NETS, workers=THREADS)
    wall = time.perf_counter() - started
    busy = sum(os.times()[:2]) - sum(used[:2])
    assert found.complete
    nets = len(found.points) * NETS
    rows = [
        ("sweep, with the critical sigma", f"{wall:.1f} s", f"{busy:.1f} s", f"under {GOAL:.0f} s"),
        ("`simulate`, net by net", f"{each * nets:.0f} s", "", f"{each * nets / wall:.1f}x the sweep's"),
        ("states and gradient, net by net", f"{alone * nets:.0f} s", "", f"{alone * nets / wall:.1f}x the sweep's"),
    ]
    text = "\n".join(
        [
            "# A phase diagram against net by net",
            "",
            f"{len(found.points)} points, {NETS} nets each, H=128, T=200, B=16, {THREADS} threads; {date.today()},",
            f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f} at the end. Written by `python benchmarks/sweep.py --output benchmarks/sweep.md`.",
            "",
            "| what | wall | of the processors | |",
            "|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )
    Console(markup=False, highlight=False).print(text, soft_wrap=True)
    if output is not None:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
