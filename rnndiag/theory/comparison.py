"""Theory beside measurement: what mean field predicts for a random net on its probe, and what came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.lyapunov import Lyapunov, transient_of
from rnndiag.random_nets import RandomNet
from rnndiag.theory.along_probe import Along, along_probe, critical_along
from rnndiag.theory.finite_size import Z_95, FiniteSize, mixing, settled
from rnndiag.theory.gaussian_moments import LARGEST_Q, Floats, moments
from rnndiag.theory.law import Law, law_of
from rnndiag.theory.mean_field import mean_field


@dataclass(frozen=True, slots=True)
class LayerTheory:
    """Mean field of one layer, beside its measured top exponent; rates in nats per step."""

    layer: str
    sigma: float
    """gain of ``W_hh``: its entries have variance ``sigma^2 / H``"""
    input_variance: float
    """``v`` over units of what input and bias add to a preactivation; mean over steps and sequences"""
    fixed_point_q: float
    """variance of the preactivation under steady inputs of variance ``v``"""
    rate: float
    """``E[log chi] / 2`` over the steps and sequences measured, given the probe's inputs"""
    chi: float
    """``exp(2 rate)``: growth per step of a squared gradient"""
    depth_scale: float
    """``-1 / log chi`` in steps; infinite where gradients do not vanish"""
    critical_sigma: float
    """the gain at which the rate is zero on this probe"""
    at_rest: bool
    """whether nothing moves the net from zero, where it then stays even if that is unstable"""
    finite_size_rate: float
    """the rate expected at this width"""
    finite_size_interval: tuple[float, float]
    """in which 95 nets of 100 of this width are expected"""
    measured_rate: float | None
    """top exponent; None where it could not be measured, or the layer was not asked for"""
    measured_interval: tuple[float, float] | None
    """95 %, by its standard error over time and sequences; NaN where there is none"""
    agrees: bool | None
    """whether the two intervals meet"""


@dataclass(frozen=True, slots=True)
class Theory:
    """What mean-field theory predicts for a random net.

    The single numbers are those of the layer whose predicted rate is largest, as it gives the stack's top exponent;
    None where theory does not apply.
    """

    applies: bool
    rate: float | None = None
    critical_sigma: float | None = None
    fixed_point_q: float | None = None
    reason: str = ""
    """why it does not apply"""
    layer: str | None = None
    """the layer whose numbers these are"""
    layers: tuple[LayerTheory, ...] = ()
    """bottom up"""


def compare_to_theory(net: RandomNet, inputs: Tensor, measured: Sequence[LayerMeasures]) -> Theory:
    """The prediction for a random net on a probe ``[T, B, D]``, beside the layers that were measured."""
    theory = predict(net, inputs)
    spectra = {layer.name: layer.lyapunov for layer in measured}
    return replace(theory, layers=tuple(beside(layer, spectra.get(layer.layer)) for layer in theory.layers))


def predict(net: RandomNet, inputs: Tensor) -> Theory:
    """Mean field of each layer of a random net, fed by the layer below; nothing is measured.

    Args:
        net: by its law: no weights are drawn.
        inputs: the probe's ``[T, B, D]``; their second moments are taken as they are.
    """
    transient = transient_of(len(inputs))
    steady = bool((inputs[transient:] == inputs[transient]).all())
    feeds: Floats = inputs.square().sum(-1).numpy()
    layers: list[LayerTheory] = []
    for level in range(net.layers):
        law = law_of(net, level)
        if isinstance(law, str):
            return Theory(applies=False, reason=law)
        variances = np.minimum(law.input_variance * feeds + law.bias_variance, LARGEST_Q)
        along = along_probe(law.sigma, variances, law.nonlinearity)
        if law.nonlinearity == "relu" and not along.q[transient:].any():
            return Theory(applies=False, reason=f"rnn.l{level} rests at zero, where relu has no slope")
        layer, still = _predicted(f"rnn.l{level}", law, variances, along, net.hidden, transient, steady=steady)
        layers.append(layer)
        feeds, steady = np.minimum(net.hidden * along.output, LARGEST_Q), steady and still
    top = max(layers, key=lambda layer: layer.rate)
    return Theory(True, top.rate, top.critical_sigma, top.fixed_point_q, "", top.layer, tuple(layers))


def beside(predicted: LayerTheory, measured: Lyapunov | None) -> LayerTheory:
    """The prediction with the measured top exponent beside it."""
    if measured is None:
        return predicted
    rate, error = measured.exponents[0], measured.standard_errors[0]
    low, high = rate - Z_95 * error, rate + Z_95 * error
    # Without an error of its own the exponent is a point.
    least, most = (low, high) if math.isfinite(error) else (rate, rate)
    expected = predicted.finite_size_interval
    agrees = least <= expected[1] and most >= expected[0]
    return replace(predicted, measured_rate=rate, measured_interval=(low, high), agrees=agrees)


def _predicted(
    name: str, law: Law, variances: Floats, along: Along, width: int, transient: int, *, steady: bool
) -> tuple[LayerTheory, bool]:
    """The prediction without a measurement, and whether the layer's states come to stand still."""
    rate = along.rate(transient)
    late = variances[transient:]
    variance = float(late.mean())
    at_rest = not along.q[transient:].any()
    # A relu net under steady inputs, or one that outgrows them, turns to a fixed direction whatever its gain.
    still = steady and (rate < 0 or at_rest or law.nonlinearity == "relu")
    frozen = still or (law.nonlinearity == "relu" and rate >= 0)
    finite = _finite_size(rate, law, along.q[transient:], width, steady=steady, frozen=frozen)
    chi = math.exp(2 * rate)
    predicted = LayerTheory(
        layer=name,
        sigma=law.sigma,
        input_variance=variance,
        fixed_point_q=mean_field(law.sigma, variance, law.nonlinearity).q,
        rate=rate,
        chi=chi,
        depth_scale=-1 / (2 * rate) if rate < 0 else math.inf,
        critical_sigma=critical_along(variances, law.nonlinearity, transient),
        at_rest=at_rest,
        finite_size_rate=finite.rate,
        finite_size_interval=finite.interval,
        measured_rate=None,
        measured_interval=None,
        agrees=None,
    )
    return predicted, still


def _finite_size(rate: float, law: Law, q: Floats, width: int, *, steady: bool, frozen: bool) -> FiniteSize:
    at = moments(float(q.mean()), law.nonlinearity)
    kurtosis = float(at.slope4 / at.slope2**2)
    if frozen and not law.orthogonal:
        return settled(rate, width, kurtosis=kurtosis)
    overlap = 1.0 if frozen else float(at.slope1**2 / at.slope2)
    return mixing(
        rate,
        width,
        law.nonlinearity,
        kurtosis=kurtosis,
        overlap=overlap,
        steps=q.size,
        steady=steady,
        orthogonal=law.orthogonal,
    )
