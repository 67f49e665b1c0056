"""Mean field of a random Elman net: how large its states are, and how fast its gradients grow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnndiag.errors import SettingsError
from rnndiag.theory.gaussian_moments import Nonlinearity, moments

RELU_CRITICAL = math.sqrt(2)

MOST_STEPS = 200
"""Newton's iteration halves the distance while far and squares it when near: 60 steps are many."""


@dataclass(frozen=True, slots=True)
class MeanField:
    """The limit of infinite width of a net in its steady state."""

    q: float
    """variance of the preactivation over units; infinite where it grows without end"""
    chi: float
    """mean squared singular value of the step Jacobian: the growth per step of a squared gradient"""
    rate: float
    """``log(chi) / 2``, the largest Lyapunov exponent, in nats per step; ``-inf`` where chi is 0"""
    depth_scale: float
    """``-1 / log chi``, steps over which a squared gradient falls by ``e``; infinite where ``chi >= 1``"""


def mean_field(sigma: float, variance: float, nonlinearity: Nonlinearity) -> MeanField:
    """The steady state of a net with independent ``W_hh`` entries of mean 0 and variance ``sigma^2 / H``.

        q   = sigma^2 E[phi(sqrt(q) z)^2] + v          z ~ N(0, 1)
        chi = sigma^2 E[phi'(sqrt(q) z)^2]

    ``E`` is over units, so that inputs that vary and a bias that does not enter alike, by the total variance
    ``v`` over units of what they add to a preactivation. The tangent meets a new set of units at each step, and
    its growth factorizes over steps whether or not the states are correlated in time: ``rate = log(chi) / 2``.

    Source: Molgedey, Schuchhardt & Schuster 1992; Poole et al. 2016; Schoenholz et al. 2017.

    tanh, ``v = 0``: ``q = 0`` up to ``sigma = 1``; above, the fixed point with ``q > 0`` (a net that rests at
    exactly zero stays there, at the rate ``log sigma``). relu: ``chi = sigma^2 / 2`` whatever ``q``, which is
    ``v / (1 - sigma^2/2)``, infinite from ``sigma = sqrt 2`` on, and NaN (any) at ``sqrt 2`` without input.

    Args:
        sigma: gain of ``W_hh``, at least 0.
        variance: ``v``, at least 0.
        nonlinearity: tanh or relu.

    Raises:
        SettingsError: for a gain or a variance that is negative or not finite.

    >>> round(mean_field(2.0, 0.0, "tanh").rate, 4)
    0.1547
    """
    _check("sigma", sigma)
    _check("input variance", variance)
    q = _relu_fixed_point(sigma, variance) if nonlinearity == "relu" else _fixed_point(sigma, variance)
    slope2 = 0.5 if nonlinearity == "relu" else float(moments(q, nonlinearity).slope2)
    # The square of the gain may leave the range where its logarithm does not.
    log_chi = 2 * math.log(sigma) + math.log(slope2) if sigma > 0 else -math.inf
    return MeanField(q, sigma * sigma * slope2, log_chi / 2, -1 / log_chi if log_chi < 0 else math.inf)


def critical_sigma(variance: float, nonlinearity: Nonlinearity) -> float:
    """The gain at which ``chi = 1``: gradients vanish below it and explode above.

    1 without input and above 1 with it for tanh; ``sqrt 2`` for relu. With ``chi = 1`` the gain can be
    eliminated, and the fixed point is the root in ``q`` of ``q - E[phi^2] / E[phi'^2] = v``, found by bisection.

    Raises:
        SettingsError: for a variance that is negative or not finite.
    """
    _check("input variance", variance)
    if nonlinearity == "relu":
        return RELU_CRITICAL
    if variance == 0:
        return 1.0
    # The left side is 4/3 q^3 near 0 and q - O(sqrt q) far out.
    low, high = 0.0, math.log1p(2 * variance + 20)
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        field = moments(math.expm1(middle), nonlinearity)
        given = math.expm1(middle) - float(field.square / field.slope2)
        low, high = (middle, high) if given < variance else (low, middle)
    return 1 / math.sqrt(float(moments(math.expm1(high), nonlinearity).slope2))


def _fixed_point(sigma: float, variance: float) -> float:
    """The stable fixed point for tanh, by Newton's iteration from above.

    ``f(q) - q`` is concave and not positive at ``sigma^2 + v``, so every tangent meets zero between the root and
    the last guess: it converges from above without a bracket, near the critical gain too.
    """
    if variance == 0 and sigma <= 1:
        return 0.0
    q = sigma**2 + variance
    for _ in range(MOST_STEPS):
        field = moments(q, "tanh")
        excess = sigma**2 * float(field.square) + variance - q
        # d/dq E[f] = E[f'']/2, and (tanh^2)''/2 = 3 sech^4 - 2 sech^2.
        slope = sigma**2 * float(3 * field.slope2 - 2 * field.slope1) - 1
        if excess >= 0 or slope >= 0 or excess / slope <= 1e-15 * q:
            break
        q -= excess / slope
    return max(q, variance)


def _relu_fixed_point(sigma: float, variance: float) -> float:
    kept = 1 - sigma**2 / 2
    if math.isclose(sigma, RELU_CRITICAL, rel_tol=1e-12):
        return math.nan if variance == 0 else math.inf
    return variance / kept if kept > 0 else math.inf


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise SettingsError(f"{name}: expected a finite number of at least 0, got {value}")
