"""Stacks that are ill, ready for treatment."""

from __future__ import annotations

from typing import Any

from rnndiag.bench import Bench
from rnndiag.cells.layer import Stack
from rnndiag.config.settings import Settings
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.treatments.patient import Patient

LENGTH = 50


def patient(stack: Stack | None = None, *, length: int = LENGTH, **net: Any) -> Patient:
    """A given stack, or a random net of 24 units, at the lag of a probe of 8 sequences."""
    (built,) = (stack,) if stack is not None else RandomNet(**{"hidden": 24, "input_size": 3, **net}).build().stacks
    return Patient.of(Bench.of(built, Probe(length=length, batch=8), Settings()))
