"""How the gradient travels through time: gain by lag, rate, horizon, bounds, and credit by lag."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import takewhile

import torch
from torch import Tensor

from rnndiag.cells.custom import Layer
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.config.settings import Thresholds
from rnndiag.measures.adjoint import Adjoint
from rnndiag.measures.statistics import FEWEST, median, median_interval
from rnndiag.measures.verdict import Verdict, judge, sequences_to_settle
from rnndiag.operators.wide import ldexp, scaled_to_one

LARGEST_LOG = math.log(sys.float_info.max)

CREDIT_LAGS = (1, 10, 100)
CREDIT_SHARE = 0.99

UNDERFLOW = {dtype: bits * math.log10(2) for dtype, bits in (("float16", -25), ("bfloat16", -134), ("float32", -150))}
"""log10 of half the smallest subnormal: a gradient under it is rounded to zero."""


@dataclass(frozen=True, slots=True)
class GradientThroughTime:
    """``||d_{T-l}|| / ||d_T||`` for random unit ``d_T`` on the last ``h``, by lag ``l``.

    Per lag the value of a sequence is the mean of log10 over draws; medians and the 95 % interval are
    over sequences. With fewer than six sequences the interval is the range of all samples, which says less.
    """

    lag: int
    """the lag of the verdict, in steps"""
    log10_gain: float
    """median at that lag"""
    log10_gain_interval: tuple[float, float]
    log10_by_lag: tuple[float, ...]
    """medians; entry ``i`` is lag ``i + 1``, or ``lags[i]``"""
    rate: float
    """nats per step, up to the lag"""
    multiplier: float
    """``exp(rate)``: what a step multiplies the gradient by"""
    horizon: int | None
    """first lag at which the median leaves the healthy band, on either side; None if it stays inside"""
    settled_from: int | None
    """lag from which on the median stays past the threshold that it is past at the lag of the verdict; None
    where it is inside the band there"""
    input_log10_gain: float
    """median at the input ``lag - 1`` steps before the last one, the earliest of those ``lag`` inputs"""
    underflow_lag: dict[str, int | None]
    """by float type: first lag at which a gradient of size 1 is rounded to zero"""
    sequences_to_settle: int | None
    """for an inconclusive verdict: about how many sequences would settle it"""
    lags: tuple[int, ...] | None = field(default=None, kw_only=True)
    """the lags that ``log10_by_lag`` is given at; None: every lag from 1 on"""


@dataclass(frozen=True, slots=True)
class LayerGradient(GradientThroughTime):
    """The same for a layer alone, with the bounds that stand beside it and the credit by lag."""

    bound_log10_gain: float
    """product of the step norms over the last ``lag`` steps, median over sequences: a true bound"""
    rough_bound_log10_gain: float | None
    """``(||W_hh||_2 max phi')^lag``, the textbook's rough estimate; Elman nets only"""
    contraction_guaranteed: bool | None
    """``||W_hh||_2 max phi' < 1``: sufficient for vanishing, whatever the input; Elman nets only"""
    credit: dict[str, float] | None
    """share of the norms of the steps' contributions to ``dL/dW_hh`` within the last 1, 10, 100 steps; None where no
    ``W_hh`` is known"""
    credit_99_steps: int | None
    """last steps that hold 99 % of it, median over sequences and draws"""


def gain_at(samples: Tensor, thresholds: Thresholds) -> tuple[float, tuple[float, float], Verdict]:
    """Median, its interval and the verdict from the log10 gain at one lag for each draw and sequence, ``[R, B]``."""
    samples = samples.cpu()
    sequences = samples.mean(0)
    interval = median_interval(sequences, samples)
    return float(median(sequences)), interval, judge(samples, interval, thresholds)


def rate_of(log10_gain: float, lag: int) -> float:
    """Nats per step of a gain at a lag."""
    return log10_gain * math.log(10) / lag


def through_time(adjoint: Adjoint, lag: int, thresholds: Thresholds) -> tuple[GradientThroughTime, Verdict]:
    """Summarize an adjoint at a lag (at most its length) and name the verdict."""
    by_lag = adjoint.states / math.log(10)
    per_sequence = by_lag.mean(1)
    medians: list[float] = median(per_sequence).tolist()
    gain, interval, verdict = gain_at(by_lag[lag - 1], thresholds)
    rate, sequences = rate_of(gain, lag), per_sequence.shape[1]
    measured = GradientThroughTime(
        lag=lag,
        log10_gain=gain,
        log10_gain_interval=interval,
        log10_by_lag=tuple(medians),
        rate=rate,
        multiplier=math.exp(rate) if rate <= LARGEST_LOG else math.inf,
        horizon=_first(medians, lambda m: not thresholds.vanishing <= m <= thresholds.exploding),
        settled_from=_settled_from(medians[:lag], thresholds),
        input_log10_gain=float(median(adjoint.inputs[lag - 1].mean(0))) / math.log(10),
        underflow_lag={dtype: _first(medians, floor.__gt__) for dtype, floor in UNDERFLOW.items()},
        sequences_to_settle=(
            sequences_to_settle(gain, interval, sequences, thresholds)
            if verdict == "inconclusive" and sequences >= FEWEST
            else None
        ),
    )
    return measured, verdict


def layer_through_time(
    layer: Layer, adjoint: Adjoint, log10_norms: Tensor, lag: int, thresholds: Thresholds
) -> tuple[LayerGradient, Verdict]:
    """The gradient through time of one layer on its own, with its bounds and credit, and the verdict.

    Args:
        layer: the layer; its ``W_hh``, if known, gives the bound of textbooks.
        adjoint: the adjoint of this layer, with the contributions to ``dL/dW_hh`` if there are any.
        log10_norms: ``log10 ||J_t||_2``, ``[T, B]``.
        lag: at most ``T``.
        thresholds: the healthy band.
    """
    measured, verdict = through_time(adjoint, lag, thresholds)
    rough = guaranteed = None
    if isinstance(layer, RecurrentLayer) and layer.kind.elman:  # max phi' = 1 for both
        unit, power = scaled_to_one(layer.weight_hh)
        spectral_norm = float(torch.linalg.matrix_norm(unit, 2))
        rough = lag * (math.log10(spectral_norm) + power * math.log10(2) if spectral_norm else -math.inf)
        guaranteed = ldexp(spectral_norm, power) < 1
    credit, steps = _credit(adjoint)
    layered = LayerGradient(
        **{field.name: getattr(measured, field.name) for field in fields(measured)},
        bound_log10_gain=float(median(log10_norms[-lag:].sum(0))),
        rough_bound_log10_gain=rough,
        contraction_guaranteed=guaranteed,
        credit=credit,
        credit_99_steps=steps,
    )
    return layered, verdict


def _credit(adjoint: Adjoint) -> tuple[dict[str, float] | None, int | None]:
    if adjoint.weights is None:
        return None, None
    shares = adjoint.weights.softmax(0).cumsum(0).flatten(1)
    shares = shares[:, ~shares[-1].isnan()]  # where no step contributes, the gradient is exactly zero
    if not shares.numel():
        return {str(n): math.nan for n in CREDIT_LAGS}, None
    credit = {str(n): float(median(shares[min(n, len(shares)) - 1])) for n in CREDIT_LAGS}
    steps = (shares < CREDIT_SHARE).sum(0) + 1
    return credit, int(median(steps.cpu().double()))


def _settled_from(medians: Sequence[float], thresholds: Thresholds) -> int | None:
    last = medians[-1]
    if thresholds.vanishing <= last <= thresholds.exploding:
        return None
    under = last < thresholds.vanishing
    past = [m < thresholds.vanishing if under else m > thresholds.exploding for m in medians]
    return len(past) - list(takewhile(bool, reversed(past))).count(True) + 1


def _first(medians: Sequence[float], holds: Callable[[float], bool]) -> int | None:
    return next((lag for lag, value in enumerate(medians, 1) if holds(value)), None)
