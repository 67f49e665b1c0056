"""How far a net of finite width may lie from the mean field."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnndiag.measures.weights.random_matrix import radius_quantile
from rnndiag.theory.gaussian_moments import Nonlinearity

Z_95 = 1.96

MIXED: dict[Nonlinearity, float] = {"tanh": 0.35, "relu": 1.8}
"""Deviation of the rate times ``H (1 - r)``; calibrated by benchmarks/theory.py"""

NEAR_EDGE = 0.7
"""Deviation of the rate times ``sqrt H`` at the edge of chaos; calibrated by benchmarks/theory.py"""

WALK_CORRELATED = 1.5
"""The same for the walk of the growth; its steps are somewhat correlated."""


@dataclass(frozen=True, slots=True)
class FiniteSize:
    """Where the rate of 95 nets in 100 of this width is expected."""

    rate: float
    """the middle: mean field with its shift of order ``1/H``, or the median of the radius"""
    interval: tuple[float, float]


def mixing(
    rate: float,
    width: int,
    nonlinearity: Nonlinearity,
    *,
    kurtosis: float,
    overlap: float,
    steps: int,
    steady: bool,
    orthogonal: bool,
) -> FiniteSize:
    """Of a net whose slopes change from step to step, by noise or by chaos.

    A step multiplies a squared tangent by a mean over units, ``sum_i phi'_i^2 g_i^2``, of relative variance
    ``(3 k - 1) / H`` for Gaussian weights and ``3 (k - 1) / H`` for orthogonal ones. Its log is therefore lower
    than ``log chi`` by half of that, and the rate by a quarter; over ``T B`` steps it walks by the root of
    ``(3 k - 1) / (4 H T B)``. Which net was drawn matters more the less its slopes change: by about
    ``MIXED / (H (1 - r))``, at most ``NEAR_EDGE / sqrt H``. Under steady inputs slopes change by chaos alone,
    and near its edge the deviation is of order ``1 / sqrt H``.

    Args:
        rate: of the mean field.
        width: ``H``.
        nonlinearity: tanh or relu.
        kurtosis: ``k = E[phi'^4] / E[phi'^2]^2``.
        overlap: ``r = E[phi']^2 / E[phi'^2]``, of the slopes at two distant steps.
        steps: ``T B`` measured.
        steady: whether the inputs stand still.
        orthogonal: whether the recurrent weight is.
    """
    variance = 3 * (kurtosis - 1) if orthogonal else 3 * kurtosis - 1
    middle = rate - variance / (4 * width)
    walk = WALK_CORRELATED * math.sqrt(variance / (4 * width * steps))
    drawn = min(NEAR_EDGE / math.sqrt(width), MIXED[nonlinearity] / (width * max(1 - overlap, 1e-12)))
    if steady:
        drawn = max(drawn, NEAR_EDGE / (math.sqrt(width) * (1 + abs(rate) * math.sqrt(width))))
    reach = Z_95 * math.hypot(walk, drawn)
    return FiniteSize(middle, (middle - reach, middle + reach))


def settled(rate: float, width: int, *, kurtosis: float) -> FiniteSize:
    """Of a net that has come to rest: the same Jacobian at each step, whose spectral radius is the multiplier.

    Slopes weigh the units unequally, which leaves a Gaussian matrix of ``H / k`` of them.

    Args:
        rate: of the mean field.
        width: ``H``.
        kurtosis: ``k = E[phi'^4] / E[phi'^2]^2``.
    """
    size = max(1, round(width / kurtosis))
    low, middle, high = (math.log(radius_quantile(size, share)) for share in (0.025, 0.5, 0.975))
    # A sequence too short for the leading eigenvector to win shows the mean over all of them.
    return FiniteSize(rate + middle, (rate + min(low, -Z_95 / (2 * math.sqrt(width))), rate + high))
