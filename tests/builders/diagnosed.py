"""The report on stacks that a test makes."""

from __future__ import annotations

from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.report import Report


def diagnosed(*stacks: Stack, probe: Probe | None = None, **settings: object) -> Report:
    """The report without trials of treatments, which take ten times as long, unless they are asked for."""
    model = Model(Source("made here", "random"), stacks)
    return diagnose(model, probe or Probe(length=30, batch=8), Settings(**{"treat": False, **settings}))
