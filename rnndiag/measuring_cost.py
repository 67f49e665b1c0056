"""What a diagnosis will cost, before it begins: its floating-point work at this machine's own rate of products."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from rnndiag.bench import Bench
from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError
from rnndiag.machine.device import at_once, available_memory, memory_of
from rnndiag.probes import Probe
from rnndiag.trajectory import HELD_BYTES, WINDOW_BYTES

ANNOUNCE_SECONDS = 30.0
"""An estimate of at least this many seconds is logged before the work begins."""

SLOW_FLOPS_PER_SECOND = 1e10
"""The rate of a slow machine. The rate of this machine is measured only for work that takes long on a slow machine."""

TRIALS_PER_MEASUREMENT = 4
"""The rough time that trying treatments takes, as a multiple of one measurement."""

MAX_MEASURING_SECONDS = 60.0
"""A diagnosis tries no treatments on a stack whose measurement takes longer on a slow machine. The limit does not
depend on the machine, so that the same model gets the same report everywhere."""

STEP_SECONDS = 50e-6
"""The time of one step of a small layer, whatever its size: a few dozen short operations."""

LANCZOS_PASSES = 25
"""How often a step of Lanczos' method reads or writes each of its columns, in addition to the product."""

BYTES_PER_SECOND = 8e9
"""The rate at which these passes move data."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of measuring a stack."""

    flops: float
    """in products of matrices; factorisations by what they take as long as"""
    passes: float
    """bytes moved beside them"""
    steps: float
    """of one layer, there and back"""
    memory: int
    """bytes held at once beyond what torch takes"""

    def seconds(self, rate: float) -> float:
        """At ``rate`` flops a second."""
        return self.flops / rate + self.passes / BYTES_PER_SECOND + self.steps * STEP_SECONDS

    def message(self, name: str, rate: float) -> str:
        """One line."""
        seconds = self.seconds(rate)
        time_ = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        if seconds >= 7200:
            time_ = f"{seconds / 3600:.1f} h"
        return f"{name}: about {time_} and {self.memory / 2**30:.1f} GiB, at {rate / 1e9:.3g} GFlop/s"


def cost(bench: Bench) -> Cost:
    """The cost of measuring a stack on its probe, right to a factor of two or three."""
    stack, probe, settings = bench.stack, bench.probe, bench.settings
    item = 8 if settings.dtype == "float64" else 4
    maps, draws = probe.length * probe.batch, settings.draws
    held, window = at_once(HELD_BYTES, bench.device), at_once(WINDOW_BYTES, bench.device)
    flops = passes = memory = 0.0
    for layer in stack.layers:
        hidden, recurrent, size = layer.hidden_size, layer.weight_hh.numel(), layer.state_size
        count = size if settings.exponents == "all" else min(settings.exponents, size)
        lanczos = 8 * hidden**0.27  # measured: 22 steps a column at H=64, 42 at H=512
        products = recurrent if len(layer.gates) == 1 else 2 * recurrent
        through = 2 * (recurrent + layer.weight_ih.numel())
        ways_back = 1 if len(stack.layers) == 1 else 2
        factors = 2 * size * count**2 / max(1, 6 if count < size else 1)  # each sixth step, or each
        flops += maps * (2 * products * lanczos + 4 * through + through * draws * ways_back)
        flops += maps * (2 * recurrent * count + 2 * factors) + 100 * hidden**3 * len(layer.gates)
        passes += maps * size * item * LANCZOS_PASSES * lanczos
        # Inputs twice, states, a few numbers for each draw at each step, and the linearization of a window or of all.
        rows = len(layer.gates) * hidden
        memory += item * maps * (2 * layer.input_size + size + 9 * draws) + 8 * 9 * recurrent
        along = item * maps * rows
        memory += 14 * (along if along <= held else window) + 6 * item * probe.batch * size * count
        if len(stack.layers) > 1:
            memory += 3 * item * maps * draws * layer.input_size
    return Cost(flops, passes, probe.length * len(stack.layers), int(memory))


def affordable(bench: Bench) -> bool:
    """Whether a diagnosis tries treatments on a stack: one measurement takes at most a minute on a slow machine."""
    return cost(bench).seconds(SLOW_FLOPS_PER_SECOND) <= MAX_MEASURING_SECONDS


def check_cost(bench: Bench) -> None:
    """Refuse a stack whose measurement does not fit into memory, and log an estimate if it takes long.

    Raises:
        SettingsError: with the figures.
    """
    needs = cost(bench)
    check_memory(bench.name, needs.memory, bench.probe, bench.device)
    if needs.seconds(SLOW_FLOPS_PER_SECOND) > ANNOUNCE_SECONDS:
        rate = gemm_rate(bench.settings)
        if needs.seconds(rate) > ANNOUNCE_SECONDS:
            log.info(needs.message(bench.name, rate))


def announce_trials(benches: Iterable[Bench], measured_seconds: float) -> None:
    """Log that trying treatments on these stacks takes long, if measuring all stacks took long enough for that."""
    names = ", ".join(sorted(bench.name for bench in benches))
    if names and measured_seconds > ANNOUNCE_SECONDS / TRIALS_PER_MEASUREMENT:
        log.info(f"{names}: trying treatments takes a few times as long; --no-treat leaves them out")


def gemm_rate(settings: Settings, size: int = 512) -> float:
    """Flops a second of a product of square matrices here and now, the best of five: 0.1 s."""
    like = torch.ones(size, size, dtype=getattr(torch, settings.dtype), device=settings.device)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        float((like @ like)[0, 0])  # waits for a device
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def check_memory(name: str, needed: int, probe: Probe, device: torch.device) -> None:
    """Refuse a measurement that needs more memory than is free, before it begins.

    Raises:
        SettingsError: with the figures.
    """
    held = memory_of(device)
    free = min(held, available_memory()) if device.type == "cpu" else held
    if needed > free:
        where = "this machine" if device.type == "cpu" else f"--device {device}"
        of_them = f", of which {_gib(free)} GiB are free" if free < held else ""
        raise SettingsError(
            f"T={probe.length} and B={probe.batch} would take about {_gib(needed)} GiB on {name}, {where} has "
            f"{_gib(held)} GiB{of_them}; lower --T or --batch"
        )


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g}" if size < 100 * 2**30 else f"{size / 2**30:.0f}"
