"""Moments of a nonlinearity under a centered Gaussian preactivation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Nonlinearity = Literal["tanh", "relu"]

Floats = NDArray[np.float64]

LARGEST_Q = 1e300
"""A variance that is larger counts as this one: what outgrows the range does so whatever its size."""

WIDEST = 12.0
"""Standard deviations at which the Gaussian is cut: ``exp(-72)``."""

FLAT = 22.0
"""Preactivation beyond which ``sech^2`` lies under ``1e-18``."""

NODES_PER_DEVIATION = 2.6
NODES_PER_UNIT = 5.5


@dataclass(frozen=True, slots=True)
class Moments:
    """``E[phi^2]``, ``E[phi']``, ``E[phi'^2]`` and ``E[phi'^4]`` for ``N(0, q)``, of the shape of ``q``."""

    square: Floats
    slope1: Floats
    slope2: Floats
    slope4: Floats


def moments(q: ArrayLike, nonlinearity: Nonlinearity) -> Moments:
    """Moments for each variance ``q >= 0``; relative accuracy 1e-12 from ``q = 0`` to 1e12.

    tanh: the trapezoidal rule on the preactivation, which converges geometrically for an integrand analytic
    in a strip (Trefethen & Weideman 2014): poles of ``sech`` at ``i pi/2`` allow a step of about 1/5, a Gaussian
    of deviation ``d`` one of about ``d/3``. The smaller is taken, so that a slope that is narrow beside a
    wide Gaussian is resolved as well; a Gauss-Hermite rule would need ``O(q)`` nodes for it.

    relu: closed forms, ``q/2`` and ``1/2``.
    """
    variance = np.asarray(q, dtype=np.float64)
    return _MOMENTS[nonlinearity](variance)


def _relu(q: Floats) -> Moments:
    half = np.full_like(q, 0.5)
    return Moments(q / 2, half, half, half)


def _tanh(q: Floats) -> Moments:
    # A state of deviation under 1e-150 has tanh(a) = a; its square must not underflow to 0/0.
    deviation = np.sqrt(q)[..., None]
    safe = np.maximum(deviation, 1e-150)
    reach = np.minimum(WIDEST, FLAT / safe)  # in deviations; the slope is over before the Gaussian is, if q is large
    nodes = int(np.ceil(np.max(reach * np.maximum(NODES_PER_DEVIATION, NODES_PER_UNIT * safe), initial=1.0)))
    z = reach * (np.arange(1, nodes + 1) / nodes)
    step = reach / nodes
    weight = step * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # half of the weight of +-z together
    slope = 1 / np.cosh(np.minimum(safe * z, 300.0)) ** 2
    origin = step[..., 0] / np.sqrt(2 * np.pi)

    def mean(values: Any, at_zero: Any) -> Any:
        return 2 * (weight * values).sum(-1) + at_zero

    slope1 = mean(slope, origin)
    # tanh^2 does not end with the slope: for a wide Gaussian its complement is what can be summed.
    wide = deviation[..., 0] > FLAT / WIDEST
    square = np.where(wide, 1 - slope1, mean(np.tanh(safe * z) ** 2, 0.0))
    at_rest = q == 0  # exact values: at the critical gain the sign of the rate hangs on them
    slopes = (np.where(at_rest, 1.0, each) for each in (slope1, mean(slope**2, origin), mean(slope**4, origin)))
    return Moments(np.where(at_rest, 0.0, square), *slopes)


_MOMENTS = {"tanh": _tanh, "relu": _relu}
