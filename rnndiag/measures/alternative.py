"""The verdict under the other nonlinearity, where a file does not say whether an Elman layer has tanh or ReLU.

Everything else in a report is measured under the assumption. Only the states and the adjoint are computed a second
time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.config.settings import Settings
from rnndiag.measures.adjoint import layer_adjoint, stack_adjoint
from rnndiag.measures.gradient import gain_at
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.verdict import Alternative, NonlinearityName, Verdict
from rnndiag.seeds import generator
from rnndiag.trajectory import run_stack

Judged = TypeVar("Judged", LayerMeasures, StackMeasures)

LOG_10 = math.log(10)

OTHER: dict[NonlinearityName, NonlinearityName] = {"tanh": "relu", "relu": "tanh"}


Outcome = tuple[Verdict, float | None]
"""A verdict, and the median log10 gain at the lag."""


def assumed_nonlinearity(stack: Stack) -> NonlinearityName | None:
    """The nonlinearity that was assumed for layers of a stack; None where the file says it, or there are gates."""
    assumed = [layer.kind.nonlinearity for layer in stack.layers if layer.nonlinearity_assumed]
    return "relu" if "relu" in assumed else "tanh" if "tanh" in assumed else None


def with_alternative(
    judged: StackMeasures,
    layers: Sequence[LayerMeasures],
    stack: Stack,
    inputs: Tensor,
    lag: int,
    settings: Settings,
) -> tuple[StackMeasures, list[LayerMeasures]]:
    """The measures of a stack and its layers, which are ``inconclusive`` where their verdict depends on an assumption.

    Args:
        judged: the stack under the assumption.
        layers: its layers under the assumption.
        stack: the stack itself, in the precision of the measurement.
        inputs: ``[T, B, D]``, as in the first measurement.
        lag: of the verdict.
        settings: draws, seed and thresholds.
    """
    assumed = assumed_nonlinearity(stack)
    if assumed is None or judged.gradient is None:
        return judged, list(layers)
    swapped = tuple(
        tuple(_swapped(layer) if layer.nonlinearity_assumed else layer for layer in level) for level in stack.levels
    )
    of_stack, of_layers = _outcomes(replace(stack, levels=swapped), inputs, lag, settings)
    judged_layers = [_with(layer, assumed, outcome) for layer, outcome in zip(layers, of_layers, strict=True)]
    return _with(judged, assumed, of_stack), judged_layers


def _swapped(layer: RecurrentLayer) -> RecurrentLayer:
    """The layer with the other nonlinearity, whose cell has the same name up to the nonlinearity at its end."""
    own = layer.kind.nonlinearity
    assert own is not None  # it was assumed
    return replace(layer, cell=layer.cell.removesuffix(own) + OTHER[own])


def _with(judged: Judged, assumed: NonlinearityName, outcome: Outcome) -> Judged:
    verdict, gain = outcome
    alternative = Alternative(assumed, judged.verdict, OTHER[assumed], verdict, gain)
    shown: Verdict = "inconclusive" if alternative.undecided else judged.verdict
    return replace(judged, verdict=shown, alternative=alternative)


def _outcomes(stack: Stack, inputs: Tensor, lag: int, settings: Settings) -> tuple[Outcome, list[Outcome]]:
    """The outcome for a stack, and for each of its layers alone."""
    levels = run_stack(stack, inputs)
    runs = [run for level in levels for run in level]
    overflow: Outcome = ("invalid", None)
    if any(run.first_nonfinite_step() is not None for run in runs):
        return overflow, [overflow] * len(runs)

    def outcome(log_norms: Tensor) -> Outcome:
        gain, _, verdict = gain_at(log_norms[lag - 1] / LOG_10, settings.thresholds)
        return verdict, gain

    # The same random vectors as under the assumption.
    of_layers = [
        outcome(layer_adjoint(run, draws=settings.draws, generator=generator(settings.seed, "gradient")).states)
        for run in runs
    ]
    if len(runs) == 1:
        return of_layers[0], of_layers
    whole = stack_adjoint(levels, draws=settings.draws, generator=generator(settings.seed, "gradient"))
    return outcome(whole.states), of_layers


def as_assumed(judged: Judged) -> Judged:
    """A layer or stack with its verdict under the assumption."""
    return judged if judged.alternative is None else replace(judged, verdict=judged.alternative.assumed_verdict)
