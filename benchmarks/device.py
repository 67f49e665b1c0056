"""A device compared with the processor: the same measures on both, and the share of the device's own rate of products.

    python benchmarks/device.py [--device cuda] [--sizes 512,2048,8192] [--output benchmarks/device.md]

Times are medians by the clock, each until the device is done; the numbers of both are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from clock import machine, table
from rich.console import Console
from torch import Tensor

from rnndiag.config.settings import Settings
from rnndiag.machine.device import device_of, measuring
from rnndiag.measures.adjoint import layer_adjoint
from rnndiag.operators.lanczos import spectral_norms
from rnndiag.operators.qr_exponents import frame_growth
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.trajectory import run_layer

HEADER = ("what", "cpu", "device", "ratio", "values within", "share of the device's rate")
LENGTH, BATCH, DRAWS, COUNT = 200, 4, 4, 8

Measure = Callable[[torch.device], Tensor]


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def measures(hidden: int) -> dict[str, tuple[Measure, float]]:
    """Each from the inputs on, and the flops of its products (of the norms: not counted)."""
    (stack,) = RandomNet(hidden=hidden, input_size=8, sigma=1.2).build().stacks
    (layer,) = stack.layers
    inputs = Probe(length=LENGTH, batch=BATCH).inputs(stack)

    def states(device: torch.device) -> Tensor:
        return run_layer(layer.to(torch.float64, device), inputs.to(device)).hidden

    def norms(device: torch.device) -> Tensor:
        run = run_layer(layer.to(torch.float64, device), inputs.to(device))
        return spectral_norms(run.along.state_jacobian, generator=stream())

    def exponents(device: torch.device) -> Tensor:
        run = run_layer(layer.to(torch.float64, device), inputs.to(device))
        return frame_growth(run.state_jacobians, COUNT, [0, LENGTH], generator=stream()) / LENGTH

    def gradient(device: torch.device) -> Tensor:
        run = run_layer(layer.to(torch.float64, device), inputs.to(device))
        return layer_adjoint(run, draws=DRAWS, generator=stream()).states / LENGTH

    step = 2.0 * hidden**2 * BATCH * LENGTH
    return {
        "states": (states, step),
        "step norms": (norms, 0.0),
        f"exponents, k={COUNT}": (exponents, step * (1 + COUNT)),
        "gradient through time": (gradient, step * (1 + DRAWS)),
    }


def seconds(call: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """By the clock until the numbers are here, after one call that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = call().cpu()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:] or times), result


def gemm_rate(device: torch.device, size: int) -> float:
    """Flops a second of ``[B T, n] x [n, n]``, the shape of the norms' products."""
    left = torch.ones(BATCH * LENGTH, size, dtype=torch.float64, device=device)
    right = torch.ones(size, size, dtype=torch.float64, device=device)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(20):
            product = left @ right
        float(product[0, 0])
        times.append((time.perf_counter() - start) / 20)
    return 2 * BATCH * LENGTH * size**2 / min(times)


def rows(device: torch.device, sizes: list[int]) -> Iterator[tuple[str, ...]]:
    processor = torch.device("cpu")
    for hidden in sizes:
        rate = gemm_rate(device, hidden)
        for name, (measure, flops) in measures(hidden).items():
            repeats = 3 if hidden < 4096 else 1
            with measuring(hidden**2, device):
                slow, expected = seconds(partial(measure, processor), repeats)
                fast, found = seconds(partial(measure, device), repeats)
            apart = float((found - expected).abs().max())
            share = f"{flops / fast / rate:.1%} of {rate / 1e12:.3g} TFlop/s" if flops else "-"
            yield (
                f"{name}, H={hidden}, T={LENGTH}, B={BATCH}",
                f"{slow:.3g} s",
                f"{fast:.3g} s",
                f"{slow / fast:.2g}x",
                f"{apart:.0e}",
                share,
            )


def main(
    device: Annotated[str, typer.Option(help="To set beside the processor.")] = "cuda",
    sizes: Annotated[str, typer.Option(help="Hidden sizes, separated by commas.")] = "512,2048,8192",
    output: Annotated[Path | None, typer.Option(help="Also write the table there, as Markdown.")] = None,
) -> None:
    """Measure on both and print one table."""
    found = []
    for row in rows(device_of(Settings(device=device)), [int(size) for size in sizes.split(",")]):
        Console(stderr=True).print(*row, markup=False)
        found.append(row)
    text = f"{table(HEADER, found)}\nDevice: {device}. {machine()}\n"
    typer.echo(text)
    if output is not None:
        command = f"python benchmarks/device.py --device {device} --sizes {sizes}"
        title = "# A device compared with the processor"
        output.write_text(f"{title}\n\nPrinted by `{command}`.\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
