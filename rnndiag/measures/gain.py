"""The gain of a stack and nothing else. Treatments are judged by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.config.settings import Settings
from rnndiag.kinds import KINDS
from rnndiag.measures.adjoint import Adjoint, layer_adjoint, stack_adjoint
from rnndiag.measures.gradient import GradientThroughTime, through_time
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.lyapunov import lyapunov
from rnndiag.measures.saturation import saturation_rate
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.statistics import median
from rnndiag.measures.verdict import Verdict
from rnndiag.seeds import generator
from rnndiag.trajectory import Trajectory, run_layer

LEADING = 8
"""As many exponents as a report holds by default."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A stack on one probe."""

    verdict: Verdict
    gradient: GradientThroughTime | None
    """None where a state is not finite"""
    saturated: float
    """the largest ``saturation.rate`` of the report's layers; of a ReLU layer, the share of inactive units"""
    squashed: float
    """the largest rate over the layers that are not ReLU; 0 if all layers are ReLU"""
    input_now: float = math.nan
    """log10 gain at the last input: how much the last state depends on the input of the same step"""
    live: float | None = None
    """the share of the ``LEADING`` directions in which a gradient survives the lag, of the layer with the most; None
    where the verdict is not healthy, and for a stack that was not treated"""
    by_layer: tuple[float, ...] | None = None
    """the log10 gain of each layer on its own; None: not measured yet"""

    @property
    def log10(self) -> float:
        """The median log10 gain at the lag; NaN where a state is not finite."""
        return math.nan if self.gradient is None else self.gradient.log10_gain


def stack_gain(levels: Sequence[Sequence[Trajectory]], lag: int, settings: Settings) -> Gain:
    """Carry gradients back through the trajectories of a stack: the same numbers as in its report."""
    runs = [run for level in levels for run in level]
    if any(run.first_nonfinite_step() is not None for run in runs):
        return Gain("invalid", None, math.nan, math.nan)
    adjoint = _adjoint(levels, settings)
    gradient, verdict = through_time(adjoint, lag, settings.thresholds)
    rates = [(run.layer.cell, saturation_rate(run, settings.thresholds)) for run in runs]
    return Gain(
        verdict,
        gradient,
        saturated=max(rate for _, rate in rates),
        squashed=max((rate for cell, rate in rates if KINDS[cell].nonlinearity != "relu"), default=0.0),
        input_now=_input_now(adjoint),
        live=max(_live(run, lag, settings) for run in runs) if verdict == "healthy" else None,
    )


def measured_gain(stack: StackMeasures, layers: Sequence[LayerMeasures], adjoint: Adjoint) -> Gain:
    """The gain of a stack that was measured for a report, from these measures and the adjoint through the stack."""
    rates = [(layer.cell, layer.saturation.rate) for layer in layers if layer.saturation is not None]
    gradients = [layer.gradient for layer in layers if layer.gradient is not None]
    return Gain(
        stack.verdict,
        stack.gradient,
        saturated=max(rate for _, rate in rates),
        squashed=max((rate for cell, rate in rates if KINDS[cell].nonlinearity != "relu"), default=0.0),
        input_now=_input_now(adjoint),
        by_layer=tuple(gradient.log10_gain for gradient in gradients),
    )


def _input_now(adjoint: Adjoint) -> float:
    return float(median(adjoint.inputs[0].mean(0))) / math.log(10)


def layer_gain(layer: RecurrentLayer, inputs: Tensor, lag: int, settings: Settings) -> float:
    """The median log10 gain of one layer alone on ``inputs [T, B, D]``; infinite where its states overflow."""
    run = run_layer(layer, inputs)
    if run.first_nonfinite_step() is not None:
        return math.inf
    return through_time(_adjoint([[run]], settings), lag, settings.thresholds)[0].log10_gain


def _live(run: Trajectory, lag: int, settings: Settings) -> float:
    """A gain in the band may be that of one direction; the exponents say of how many it is."""
    spectrum = lyapunov(
        run.state_jacobians,
        run.inputs,
        LEADING,
        lag,
        settings.thresholds.vanishing,
        generator=generator(settings.seed, "exponents"),
    )
    return spectrum.live_directions / len(spectrum.exponents)


def _adjoint(levels: Sequence[Sequence[Trajectory]], settings: Settings) -> Adjoint:
    stream = generator(settings.seed, "gradient")
    runs = [run for level in levels for run in level]
    if len(runs) == 1:  # summed as in the layer's own report, to the last bit
        return layer_adjoint(runs[0], draws=settings.draws, generator=stream)
    return stack_adjoint(levels, draws=settings.draws, generator=stream)
