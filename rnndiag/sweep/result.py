"""What a sweep found, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rnndiag.measures.verdict import Verdict
from rnndiag.sweep.axes import Axes, Condition, Value


@dataclass(frozen=True, slots=True)
class NetMeasure:
    """One net under one condition: the quantities of the same name that ``simulate --seed`` reports.

    All but the seed and the verdict are None where the states were not finite.
    """

    seed: int
    verdict: Verdict
    rate: float | None = None
    """of the gradient up to the lag, nats per step"""
    log10_gain: float | None = None
    """at the lag, median over sequences"""
    log10_gain_interval: tuple[float, float] | None = None
    rms_gain: float | None = None
    """``||J_t||_F / sqrt(S)``, median over steps and sequences"""
    saturation: float | None = None
    """share of saturated ``(t, b, unit)``"""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One condition: medians over its nets, with what spread they have."""

    condition: Condition
    lag: int
    verdict: Verdict
    """of the median net, with an interval over nets; the net's own where there is one"""
    rate: float | None
    """nats per step"""
    rate_range: tuple[float, float] | None
    """least and greatest net's"""
    theory_rate: float | None
    """mean field's; None where it does not apply"""
    log10_gain: float | None
    log10_gain_interval: tuple[float, float] | None
    """from six nets on 95 % for the median over nets; with fewer the hull of their own intervals"""
    rms_gain: float | None
    saturation: float | None
    nets: tuple[NetMeasure, ...]

    def __getitem__(self, axis: str) -> Value:
        return dict(self.condition)[axis]


@dataclass(frozen=True, slots=True)
class CriticalSigma:
    """The gain at which the gradient neither vanishes nor explodes, for one value of the other axis."""

    at: Condition
    """the other axes' values"""
    sigma: float | None
    """median over nets of each net's own root; None: fewer than half of them have one within the range"""
    interval: tuple[float, float] | None
    """as that of a median over nets; the range of the roots where there are fewer than six"""
    theory: float | None
    """mean field's; None where it does not apply"""
    roots: tuple[float | None, ...]
    """by net; None where its rate has one sign over the whole range"""

    @property
    def uncertainty(self) -> float | None:
        """Half the width of the interval."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2


@dataclass(frozen=True, slots=True)
class Sweep:
    """A phase diagram, or as much of it as there was time for."""

    axes: Axes
    """all, those that vary and those that have one value"""
    fixed: Mapping[str, object]
    """what else the nets, the probe and the measurement had in common"""
    points: tuple[SweepPoint, ...]
    """the last axis fastest"""
    total: int
    """points of the whole grid"""
    critical: tuple[CriticalSigma, ...]
    """by value of the other axis; empty where sigma does not vary"""
    searched: bool = True
    """False where there was no time left to look for the critical gains"""
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all was measured that was asked for."""
        return len(self.points) == self.total and self.searched
