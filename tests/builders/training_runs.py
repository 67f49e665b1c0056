"""Reports of training runs whose gain is known in closed form: a scaled orthogonal matrix at rest."""

from __future__ import annotations

import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.report import Report

T = 40
Q = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)).double()).Q
REST = Probe("zeros", T, 2)


def net(gain: float, name: str = "rnn.l0", size: int = 12) -> RecurrentLayer:
    """At rest each step multiplies the gradient by ``gain`` exactly, as tanh has slope 1 there."""
    return RecurrentLayer(name, "tanh", torch.zeros(size, 3).double(), Q[:size, :size] * gain)


def report(gain: float, path: str = "model.pt", *, digest: str = "", **progress: int) -> Report:
    source = Source(path, "random", digest, progress=progress)
    return diagnose(Model(source, (Stack("rnn", ((net(gain),),)),)), REST, Settings(treat=False))


def run(decades_a_step: float, first: float, count: int = 14) -> list[Report]:
    """Checkpoints at steps 100, 200, ...; log10 gain at the lag is ``first + decades_a_step * (step - 100)``."""
    wanted = [first + decades_a_step * 100 * i for i in range(count)]
    return [report(10 ** (w / T), f"{i}.pt", global_step=100 * (i + 1)) for i, w in enumerate(wanted)]


RISING = run(0.004, -1.0)
"""Crosses 3 at step 1100: -1 + 0.004 (1100 - 100)."""
