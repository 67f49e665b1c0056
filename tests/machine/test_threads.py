"""A report below the limit is the same to the last digit, however many threads the process has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings
from rnndiag.probes import Probe
from tests.oracles.nets import layer
from tests.paths import ROOT

SCRIPT = """
import torch
from rnndiag.__main__ import run
for cell in ("tanh", "gru", "lstm"):
    net = ["simulate", "--cell", cell, "--hidden", "255", "--init", "pytorch"]
    short = ["--T", "4", "--batch", "16", "--exponents", "2", "--no-treat", "--format", "json"]
    assert run([*net, *short]) == 0
    print(torch.get_num_threads(), file=sys.stderr)
"""


def reports(threads: int) -> str:
    """The reports of three cells, in one process that has so many threads from its start."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", "import sys" + SCRIPT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.split() == [str(threads)] * 3
    return done.stdout


def test_the_widest_nets_below_the_limit_have_one_report() -> None:
    one, two = map(reports, (1, 2))
    assert one.count('"schema_version"') == 3
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
