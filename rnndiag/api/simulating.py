"""Diagnose random nets, with theory beside what was measured."""

from __future__ import annotations

from dataclasses import replace

from rnndiag.api.probing import ProbeSpec, make_probe
from rnndiag.cells.layer import Layout
from rnndiag.config.settings import Settings
from rnndiag.diagnose import Progress, diagnose
from rnndiag.random_nets import RandomNet
from rnndiag.report import Report
from rnndiag.rules.policy import Policy
from rnndiag.theory.comparison import compare_to_theory


def simulate(
    net: RandomNet | None = None,
    *,
    probe: ProbeSpec = "noise",
    length: int | None = None,
    batch: int | None = None,
    scale: float = 1.0,
    layout: Layout | None = None,
    settings: Settings | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Report:
    """Diagnose a random net, and set theory beside what was measured; the arguments are those of ``inspect``."""
    settings, net = settings or Settings(), net or RandomNet()
    driven = make_probe(probe, length=length, batch=batch, scale=scale, settings=settings, layout=layout)
    model = net.build()
    report = diagnose(model, driven, settings, policy=policy, progress=progress)
    return replace(report, theory=compare_to_theory(net, driven.inputs(model.stacks[0]), report.layers))
