"""The gain of a stack and nothing else: what a treatment is judged by, a tenth of a whole diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config import Settings, Thresholds
from rnndiag.measures.adjoint import Adjoint, layer_adjoint, stack_adjoint
from rnndiag.measures.gradient import GradientThroughTime, through_time
from rnndiag.measures.verdict import Verdict
from rnndiag.seeds import generator
from rnndiag.trajectory import Trajectory, run_layer, run_stack


@dataclass(frozen=True, slots=True, eq=False)
class Gain:
    """A stack on one probe."""

    verdict: Verdict
    gradient: GradientThroughTime | None
    """None where a state is not finite"""
    hidden: tuple[Tensor, ...]
    """``h_1 .. h_T`` of each layer: ``[T, B, R]``"""
    saturated: float
    """the largest share, over layers, of the main nonlinearity's slopes under the threshold; 0 for ReLU"""

    @property
    def log10(self) -> float:
        """The median log10 gain at the lag; NaN where a state is not finite."""
        return math.nan if self.gradient is None else self.gradient.log10_gain


def stack_gain(stack: Stack, inputs: Tensor, lag: int, settings: Settings) -> Gain:
    """Drive a stack with ``inputs [T, B, D]``, and carry gradients back through it: the numbers of its report."""
    levels = run_stack(stack, inputs)
    runs = [run for level in levels for run in level]
    hidden = tuple(run.hidden for run in runs)
    if any(run.first_nonfinite_step() is not None for run in runs):
        return Gain("invalid", None, hidden, math.nan)
    gradient, verdict = through_time(_adjoint(levels, settings), lag, settings.thresholds)
    return Gain(verdict, gradient, hidden, max(_saturated(run, settings.thresholds) for run in runs))


def layer_gain(layer: RecurrentLayer, inputs: Tensor, lag: int, settings: Settings) -> float:
    """The median log10 gain of one layer alone on ``inputs [T, B, D]``; infinite where its states overflow."""
    run = run_layer(layer, inputs)
    if run.first_nonfinite_step() is not None:
        return math.inf
    return through_time(_adjoint([[run]], settings), lag, settings.thresholds)[0].log10_gain


def _saturated(run: Trajectory, thresholds: Thresholds) -> float:
    if run.layer.cell == "relu":
        return 0.0
    slopes = next(iter(run.along.slopes.values()))
    return float((slopes < thresholds.saturated_slope).double().mean())


def _adjoint(levels: Sequence[Sequence[Trajectory]], settings: Settings) -> Adjoint:
    stream = generator(settings.seed, "gradient")
    runs = [run for level in levels for run in level]
    if len(runs) == 1:  # summed as in the layer's own report, to the last bit
        return layer_adjoint(runs[0], draws=settings.draws, generator=stream)
    return stack_adjoint(levels, draws=settings.draws, generator=stream)
