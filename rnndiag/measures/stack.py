"""What is measured on a stack of layers as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnndiag.config.settings import Settings
from rnndiag.measures.adjoint import Adjoint, stack_adjoint
from rnndiag.measures.gradient import GradientThroughTime, through_time
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.verdict import Alternative, Verdict
from rnndiag.seeds import generator
from rnndiag.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Trainability:
    """How likely a net like this one learns a dependency at the lag."""

    probability: float


@dataclass(frozen=True, slots=True)
class StackMeasures:
    """Layers that feed one another, judged by the adjoint through all of them."""

    name: str
    layers: tuple[str, ...]
    verdict: Verdict
    lag: int
    gradient: GradientThroughTime | None
    trainability: Trainability | None = None
    """None: not determined"""
    alternative: Alternative | None = None
    """the verdict under the other nonlinearity, where one was assumed; ``verdict`` is ``inconclusive`` where the two
    differ"""
    assumed_class: str = ""
    """the class that the file names for the module, where its cell was assumed from its parameters; else empty"""


def measure_stack(
    name: str,
    levels: Sequence[Sequence[Trajectory]],
    layers: Sequence[LayerMeasures],
    lone: Adjoint | None,
    lag: int,
    settings: Settings,
) -> tuple[StackMeasures, Adjoint | None]:
    """Judge a stack.

    Args:
        name: the name of the stack.
        levels: its trajectories.
        layers: its layers as measured on their own.
        lone: the adjoint of its only layer; None if it has several layers.
        lag: at most the length of the trajectories.
        settings: draws, seed, thresholds.

    Returns:
        The measures, and the adjoint through the whole stack; None where a layer has no gradient.
    """
    names = tuple(layer.name for layer in layers)
    if any(layer.gradient is None for layer in layers):
        return StackMeasures(name, names, "invalid", lag, None), None
    adjoint = lone or stack_adjoint(levels, draws=settings.draws, generator=generator(settings.seed, "gradient"))
    gradient, verdict = through_time(adjoint, lag, settings.thresholds)
    return StackMeasures(name, names, verdict, lag, gradient), adjoint
