"""Curves by step and by lag of a long trajectory, with fewer points for a report.

Medians, extremes, horizons and rates are taken from the whole curve before it is thinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from rnndiag.measures.gradient import GradientThroughTime
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.state_size import StateSize

MAX_WHOLE_STEPS = 5000
"""A curve with more steps than this is thinned."""

END_STEPS = 100
"""The number of first steps, and of last steps, that are always kept: curves bend there."""

INNER_INTERVALS = 800
"""The number of equal intervals whose ends are kept as well."""

Gradient = TypeVar("Gradient", bound=GradientThroughTime)


def thinned_layer(layer: LayerMeasures) -> LayerMeasures:
    """The layer with curves of a thousand points, if they are longer than ``MAX_WHOLE_STEPS``.

    The steps that a curve is given at lie symmetrically, so that the lags are the same numbers, and hold those of the
    extreme values.
    """
    layer = replace(layer, states=layer.states and _thinned_states(layer.states))
    jacobian, saturation, gradient = layer.jacobian, layer.saturation, layer.gradient
    if jacobian is None or gradient is None or len(jacobian.norm_per_step) <= MAX_WHOLE_STEPS:
        return layer
    norms, saturated = jacobian.norm_per_step, () if saturation is None else saturation.per_step
    extremes = [*_extremes(norms), *_extremes(saturated)]
    steps = kept_steps(len(norms), extremes)
    return replace(
        layer,
        jacobian=replace(jacobian, norm_per_step=_at(norms, steps), steps=steps),
        gradient=_thinned(gradient, steps),
        saturation=saturation and replace(saturation, per_step=_at(saturated, steps), steps=steps),
    )


def thinned_stack(stack: StackMeasures) -> StackMeasures:
    """The same for a stack's gain by lag."""
    gradient = stack.gradient
    if gradient is None or len(gradient.log10_by_lag) <= MAX_WHOLE_STEPS:
        return stack
    telling = [lag for lag in (gradient.lag, gradient.horizon, gradient.settled_from) if lag is not None]
    return replace(stack, gradient=_thinned(gradient, kept_steps(len(gradient.log10_by_lag), telling)))


def kept_steps(length: int, always: Sequence[int]) -> tuple[int, ...]:
    """Steps from 1 to ``length``, as many from its end as from its start: with ``s`` also ``length + 1 - s``."""
    between = [1 + round(i * (length - 1) / INNER_INTERVALS) for i in range(INNER_INTERVALS + 1)]
    kept = {*range(1, END_STEPS + 1), *between, *always}
    return tuple(sorted(kept | {length + 1 - step for step in kept}))


def _thinned_states(states: StateSize) -> StateSize:
    """The states with arrays of a thousand steps. A layer with states that are not finite has no other curves."""
    norms, largest = states.norm_per_step, states.largest_per_step
    if len(norms) <= MAX_WHOLE_STEPS:
        return states
    steps = kept_steps(len(norms), [*_extremes(norms), *_extremes(largest)])
    return replace(states, norm_per_step=_at(norms, steps), largest_per_step=_at(largest, steps), steps=steps)


def _thinned(gradient: Gradient, lags: tuple[int, ...]) -> Gradient:
    return replace(gradient, log10_by_lag=_at(gradient.log10_by_lag, lags), lags=lags)


def _extremes(values: Sequence[float]) -> list[int]:
    """The steps of the largest and the smallest value, the first of each."""
    steps = range(len(values))
    return [] if not values else [1 + pick(steps, key=values.__getitem__) for pick in (max, min)]


def _at(values: Sequence[float], steps: Sequence[int]) -> tuple[float, ...]:
    return tuple(values[step - 1] for step in steps)
