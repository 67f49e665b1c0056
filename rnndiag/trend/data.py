"""What is known of a run, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rnndiag.config.settings import Thresholds
from rnndiag.measures.verdict import Verdict
from rnndiag.report import ProbeReport
from rnndiag.rules.base import Finding, NotAssessed
from rnndiag.trend.order import Order

SCHEMA_VERSION: Literal["1"] = "1"


@dataclass(frozen=True, slots=True)
class Place:
    """A layer or a stack at one checkpoint."""

    name: str
    kind: str
    """``stack``; or the cell and sizes of a layer, such as ``tanh 1>64``"""
    verdict: Verdict
    measures: dict[str, float | None]
    """by the names in ``quantities``; None where it was not measured, or has no finite value to speak of"""
    not_finite: str | None = None
    """what is NaN or infinite there, which is why measures are missing; None if everything is finite"""


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint."""

    path: str
    step: float
    """its place along training, in the unit that the order names"""
    verdict: Verdict
    stacks: tuple[Place, ...]
    layers: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A stack's verdict became another between two checkpoints."""

    where: str
    before: Verdict
    after: Verdict
    last_step: float
    """at which it was the one before"""
    first_step: float
    """at which it was the one after"""
    warned: str | None = None
    """the rule that had warned of it by then, for the worse alone"""
    warned_step: float | None = None
    """the step from which on it did, with what was known then"""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A rule that would have fired along the run, at each of some checkpoints in a row, with what was known there."""

    rule: str
    where: str
    first_step: float
    last_step: float
    warns_of: tuple[Verdict, ...]
    """what the verdict may become, should the drift go on"""


@dataclass(frozen=True, slots=True)
class Trend:
    """A run of checkpoints, in training order."""

    schema_version: Literal["1"]
    rnndiag_version: str
    order: Order
    probe: ProbeReport
    lag: int
    thresholds: Thresholds
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    """what the rules of trends say at the end of the run"""
    alarms: tuple[Alarm, ...]
    """what they would have said along it"""
    not_assessed: tuple[NotAssessed, ...]
    switched_off: tuple[NotAssessed, ...]
    notes: tuple[str, ...]
