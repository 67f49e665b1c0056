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
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from rnndiag import api
from rnndiag.config.settings import Settings
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.seeds import generator
from rnndiag.sweep.result import Sweep
from rnndiag.trajectory import run_layer

AXES = {"sigma": "0.5:3:26", "input_scale": "0.01:2:10log", "hidden": 128, "length": 200}
NETS, THREADS, SAMPLE = 3, 2, 12
GOAL = 30.0


def sampled() -> list[RandomNet]:
    return [RandomNet(sigma=0.5 + 2.5 * i / (SAMPLE - 1), input_scale=0.5, seed=i % NETS) for i in range(SAMPLE)]


def by_simulate() -> None:
    for net in sampled():
        api.simulate(net, length=200, settings=Settings(seed=net.seed, treat=False))


def one_by_one() -> None:
    for net in sampled():
        (stack,) = net.build().stacks
        run = run_layer(stack.layers[0], Probe(length=200, seed=net.seed).inputs(stack))
        layer_adjoint(run, draws=4, generator=generator(net.seed, "gradient"))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of the processors."""
    used, started = os.times(), time.perf_counter()
    work()
    wall, now = time.perf_counter() - started, os.times()
    return wall, now.user + now.system - used.user - used.system


def main(output: Annotated[Path | None, typer.Option()] = None) -> None:
    torch.set_num_threads(1)
    by_simulate()  # what the first call of anything costs is nobody's
    nets = 260 * NETS
    whole, alone = (tuple(nets / SAMPLE * seconds for seconds in timed(work)) for work in (by_simulate, one_by_one))
    found: list[Sweep] = []
    swept = timed(lambda: found.append(api.sweep(AXES, nets=NETS, workers=THREADS)))
    assert found[0].complete
    assert len(found[0].points) * NETS == nets
    rows = [
        ("sweep, with the critical sigma", f"{swept[0]:.1f} s", f"{swept[1]:.1f} s", f"goal: under {GOAL:.0f} s"),
        *(
            (
                name,
                f"{wall:.0f} s",
                f"{busy:.0f} s",
                f"{wall / swept[0]:.1f}x on the clock, {busy / swept[1]:.1f}x in all",
            )
            for name, (wall, busy) in (("`simulate`, net by net", whole), ("states and gradient, net by net", alone))
        ),
    ]
    text = "\n".join(
        [
            "# A phase diagram against net by net",
            "",
            f"{len(found[0].points)} points, {NETS} nets each, H=128, T=200, B=16, {THREADS} threads; {date.today()},",
            f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f} at the end.",
            "Written by `python benchmarks/sweep.py --output benchmarks/sweep.md`.",
            "",
            "| what | on the clock | of the processors | |",
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
