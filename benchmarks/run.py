"""rnndiag against the textbook, in one run on the same nets and the same machine.

    python benchmarks/run.py [--output benchmarks/results.md]

Prints one table. Speed is a ratio of medians of interleaved runs; memory is the peak resident size of a
process beyond what it holds once everything is imported (read from ``/proc``, so on Linux); start-up is
whole processes in turn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from clock import machine, table
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.operators.lanczos import spectral_norms
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.trajectory import run_layer, shifted

STEPS, BATCH = 200, 4
SIZES = {64: (3, 9), 128: (10, 5), 256: (40, 3), 512: (80, 3)}
"""Hidden size: the ratio to reach, and how many interleaved runs."""

SAMPLE = Path(__file__).parent.parent / "sample_models" / "healthy_tanh.pt"

Row = tuple[str, str, str, str, str]


def textbook(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> Tensor:
    """Dense Jacobians by ``torch.func``, then a batched SVD: ``[T*B]`` spectral norms."""

    def step(h: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(layer.weight_hh @ h + layer.weight_ih @ x + layer.bias_ih + layer.bias_hh)

    dense = torch.func.vmap(torch.func.jacrev(step))(previous.flatten(0, 1), inputs.flatten(0, 1))
    return torch.linalg.svdvals(dense)[:, 0]


def structured(layer: RecurrentLayer, inputs: Tensor) -> Tensor:
    """The same norms from scratch: states, diagonals, Lanczos."""
    jacobian = run_layer(layer, inputs).along.state_jacobian
    return spectral_norms(jacobian, generator=torch.Generator().manual_seed(0)).flatten()


def step_norms() -> list[Row]:
    rows = []
    for hidden, (goal, repeats) in track(SIZES.items(), "step norms", console=Console(stderr=True)):
        stack = RandomNet(sigma=1.2, hidden=hidden, input_size=8).build().stacks[0]
        (layer,) = stack.layers
        inputs = Probe(length=STEPS, batch=BATCH).inputs(stack)
        previous = shifted(run_layer(layer, inputs).hidden)
        calls = (partial(textbook, layer, inputs, previous), partial(structured, layer, inputs))
        times, (slow, fast) = interleaved(calls, repeats)
        error = float(((fast - slow) / slow).abs().max())
        rows.append(
            (
                f"step norms, H={hidden}, T={STEPS}, B={BATCH}",
                f"torch.func Jacobians + batched SVD: {times[0]:.3g} s",
                f"{times[1]:.3g} s",
                f"{times[0] / times[1]:.1f}x (values within {error:.0e})",
                f"{goal}x, 1e-6",
            )
        )
    return rows


def interleaved(
    calls: tuple[Callable[[], Tensor], Callable[[], Tensor]], repeats: int
) -> tuple[list[float], list[Tensor]]:
    """Median seconds of each call, run in turn after one uncounted call of the second, and their results."""
    calls[1]()
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Tensor] = []
    for _ in range(repeats):
        results = []
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            results.append(call())
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds], results


MEMORY = """
import re, torch
from pathlib import Path
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = kilobytes("VmRSS")
diagnose(RandomNet(sigma=1.2, hidden=1024).build(), Probe(length=1000, batch=8), Settings())
print(kilobytes("VmHWM") - before)
"""


def memory() -> Row:
    with Console(stderr=True).status("memory"):
        kilobytes = int(subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, check=True).stdout)
    dense = 1000 * 8 * 1024**2 * 8
    return (
        "whole diagnosis, H=1024, T=1000, B=8: peak memory",
        f"dense [T, B, H, H] array: {dense / 2**30:.1f} GiB",
        f"{kilobytes / 2**20:.2f} GiB",
        f"1/{dense / 1024 / kilobytes:.0f}",
        "1/50",
    )


def start_up(repeats: int = 9) -> list[Row]:
    """Whole processes in turn, against importing torch and against the same without what Python does as it ends."""
    python = [sys.executable]
    bases = {
        "whole": [*python, "-c", "import torch"],
        "import": [*python, "-c", "import os, torch; os._exit(0)"],
    }
    light = (["--help"], ["rules"], ["explain", "VAN001"], ["schema"])
    goals = {" ".join(words): "0.15" for words in light} | {f"inspect {SAMPLE.name}": "1.25"}
    ours = dict(zip(goals, (*light, ["inspect", str(SAMPLE)]), strict=True))
    commands = bases | {name: [*python, "-m", "rnndiag", *words] for name, words in ours.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in track(range(repeats + 1), "start-up", console=Console(stderr=True)):
        for name, command in commands.items():  # the first turn writes bytecode and does not count
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    whole, bare = (median.pop(name) for name in bases)
    return [
        (
            f"rnndiag {name}, whole process",
            f"python -c 'import torch': {whole:.2f} s; until it is imported: {bare:.2f} s",
            f"{taken:.2f} s",
            f"{taken / whole:.2f} of it; {taken / bare:.2f}",
            goals[name],
        )
        for name, taken in median.items()
    ]


def main(
    output: Annotated[Path | None, typer.Option(help="Also write the table there, as Markdown.")] = None,
) -> None:
    """Run every comparison and print one table."""
    header = ("what", "against", "rnndiag", "ratio", "goal")
    text = f"{table(header, [*step_norms(), memory(), *start_up()])}\n{machine()}\n"
    typer.echo(text)
    if output is not None:
        output.write_text(f"# Benchmarks\n\nPrinted by `python benchmarks/run.py`.\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
