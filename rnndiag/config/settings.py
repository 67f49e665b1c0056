"""The settings of a diagnosis: the lag, precision, sizes of samples, and thresholds, with defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rnndiag.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a quantity counts as too small or too large.

    The band of the gain is the horizon's too: a net is vanishing at a lag just when that lag lies
    beyond its horizon by more than the uncertainty of the measurement.
    """

    vanishing: float = -3.0
    """log10 of the gain at the lag under which the gradient has vanished"""
    exploding: float = 3.0
    """log10 of the gain at the lag over which it has exploded"""
    saturated_slope: float = 0.1
    """slope ``phi'`` under which a unit counts as saturated; 0.1 is ``|tanh| > 0.949``"""
    gate_closed: float = 0.05
    gate_open: float = 0.95


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure; the probe says what to measure on."""

    lag: int | None = None
    """length of the dependency that the task needs, in steps; None: the probe's length"""
    exponents: int | Literal["all"] = 8
    dtype: Literal["float64", "float32"] = "float64"
    device: str = "cpu"
    seed: int = 0
    """seeds the random directions and start vectors; the probe has its own use of it"""
    draws: int = 4
    """random last-step gradients per sequence"""
    layers: str = "*"
    """glob over layer names"""
    thresholds: Thresholds = field(default_factory=Thresholds)
    treat: bool = True
    """try the suggestions for an unhealthy model on a copy, and drop those that do not help"""

    def __post_init__(self) -> None:
        if self.lag is not None and self.lag < 1:
            raise SettingsError(f"--lag: expected at least 1 step, got {self.lag}")
        if self.exponents != "all" and self.exponents < 1:
            raise SettingsError(f"--exponents: expected at least 1 or 'all', got {self.exponents}")
        if self.dtype not in ("float64", "float32"):
            raise SettingsError(f"--dtype: expected float64 or float32, got {self.dtype!r}")
        if self.draws < 1:
            raise SettingsError(f"draws: expected at least 1, got {self.draws}")
