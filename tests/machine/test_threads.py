"""A report below the limit is the same to the last digit, however many threads the process has."""

from __future__ import annotations

import pytest
import torch

from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings
from rnndiag.probes import Probe
from tests.builders.processes import completed
from tests.oracles.nets import layer


def report(cell: str, hidden: int, threads: int) -> bytes:
    net = ["simulate", "--cell", cell, "--hidden", str(hidden), "--init", "pytorch"]
    short = ["--T", "4", "--batch", "16", "--exponents", "2", "--no-treat", "--format", "json"]
    done = completed(*net, *short, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_the_widest_net_below_the_limit_has_one_report(cell: str) -> None:
    one, two = (report(cell, 255, threads) for threads in (1, 2))
    assert one == two


@pytest.mark.parametrize("cell", ["tanh", "relu", "gru", "reset-first", "lstm"])
def test_the_limit_is_the_same_width_for_every_cell(cell: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for hidden, threads in ((255, 1), (256, 2)):
            stack = Stack("s", ((layer(cell, 2, hidden),),))  # type: ignore[arg-type]
            with Bench.of(stack, Probe(), Settings()).conditions():
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
