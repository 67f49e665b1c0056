"""Mean field along a probe: what theory predicts for these very inputs, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rnndiag.theory.gaussian_moments import LARGEST_Q, Floats, Nonlinearity, moments
from rnndiag.theory.mean_field import RELU_CRITICAL, critical_sigma

LONGEST = 2000
"""Steps on which the critical gain is sought."""

TOLERANCE = 1e-9
"""of the rate at the critical gain"""

SECANTS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Along:
    """The preactivation's variance and the growth of gradients at each step; all ``[T, B]``."""

    q: Floats
    log_chi: Floats
    """``log(chi)``, which is finite even where ``chi`` leaves the range of float64"""
    output: Floats
    """``E[phi^2]``, what feeds the layer above"""

    def rate(self, transient: int) -> float:
        """Mean of ``log(chi) / 2`` over the steps after the transient and over sequences, in nats per step."""
        return float(self.log_chi[transient:].mean() / 2)


def along_probe(sigma: float, variances: Floats, nonlinearity: Nonlinearity) -> Along:
    """Mean field from the zero state, given the input's variance at each step.

        q_t   = sigma^2 E[phi(sqrt(q_{t-1}) z)^2] + v_t,    q_0 = 0
        chi_t = sigma^2 E[phi'(sqrt(q_t) z)^2]

    Given the inputs, the preactivations of a layer are Gaussian over units at each step, whatever the inputs'
    law: this holds for an impulse or a single sequence as well as for noise. Steady inputs lead to the fixed
    point of ``mean_field``. A tanh net that starts at zero and gets nothing stays there: ``chi = sigma^2``.

    Args:
        sigma: gain of ``W_hh``.
        variances: ``v_t`` over units ``[T, B]``: ``Var(W_ih) ||x_t||^2 + Var(b)``.
        nonlinearity: tanh or relu.

    Source: Poole et al. 2016, with inputs as in Chen, Pennington & Schoenholz 2018.
    """
    q, log_chi, output = np.empty_like(variances), np.empty_like(variances), np.empty_like(variances)
    before = np.zeros_like(variances[0])
    log_gain = 2 * math.log(sigma) if sigma > 0 else -math.inf
    for t, v in enumerate(variances):
        with np.errstate(over="ignore"):
            q[t] = np.minimum(sigma**2 * before + v, LARGEST_Q)
        at = moments(q[t], nonlinearity)
        log_chi[t], before = log_gain + np.log(at.slope2), at.square
        output[t] = before
    return Along(q, log_chi, output)


def critical_along(variances: Floats, nonlinearity: Nonlinearity, transient: int) -> float:
    """The gain at which the rate along the probe is zero, by secants from that of steady inputs.

    Found on the first ``LONGEST`` steps after the transient.
    """
    if nonlinearity == "relu":
        return RELU_CRITICAL
    shown = variances[: transient + LONGEST]

    def rate(sigma: float) -> float:
        return along_probe(sigma, shown, nonlinearity).rate(transient)

    sigma = critical_sigma(float(shown[transient:].mean()), nonlinearity)
    value, other = rate(sigma), sigma * 1.01
    beside = rate(other)
    for _ in range(SECANTS):
        if abs(value) < TOLERANCE or value == beside:
            break
        slope = (value - beside) / math.log(sigma / other)
        other, beside = sigma, value
        sigma *= math.exp(max(-1.0, min(1.0, -value / slope)))
        value = rate(sigma)
    return sigma
