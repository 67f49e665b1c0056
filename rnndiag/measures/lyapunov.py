"""Finite-time Lyapunov exponents along the trajectory: how fast nearby states part or meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.chain import Chain
from rnndiag.operators.qr_exponents import frame_growth

TRANSIENT_SHARE = 5
"""One step in five is spent on turning the frame towards the growing directions."""

LONGEST_TRANSIENT = 500
BLOCKS = 10


@dataclass(frozen=True, slots=True)
class Lyapunov:
    """Exponents in nats per step, descending, of the net along its trajectory on the probe.

    Averaged over the steps after the transient and over sequences. The standard error is the larger of two:
    that of the mean of block averages, which takes blocks of different times as independent, and the spread
    over sequences divided by the root of their number.
    """

    exponents: tuple[float, ...]
    standard_errors: tuple[float, ...]
    """NaN where a single block of a single sequence is all there is"""
    spread: tuple[float, ...]
    """standard deviation over sequences"""
    driven: bool
    """False where the inputs are zero after the transient: the net then runs autonomously"""
    transient: int
    """steps left out at the start"""
    live_directions: int
    """exponents with ``exponent * lag > log(threshold)``; at least so many if not all were computed"""
    kaplan_yorke_dimension: float | None
    """of the attractor, where the spectrum is full or its partial sums change sign"""
    entropy_rate: float | None
    """sum of the positive exponents (Pesin), where all positive ones were computed"""


def transient_of(length: int) -> int:
    """Steps left out at the start of a trajectory of that length."""
    return min(length // TRANSIENT_SHARE, LONGEST_TRANSIENT)


def lyapunov(
    jacobian: BatchedOperator | Chain[BatchedOperator],
    inputs: Tensor,
    count: int | Literal["all"],
    lag: int,
    log10_threshold: float,
    *,
    generator: torch.Generator,
) -> Lyapunov:
    """The first ``count`` exponents.

    Args:
        jacobian: batch ``[T, B]``, square, or a chain of them.
        inputs: what drove the layer, ``[T, B, D]``.
        count: how many, or all ``S``.
        lag: of the live directions, in steps.
        log10_threshold: gain under which a direction is no longer live.
        generator: draws the first frame.
    """
    size, (length, _) = jacobian.shape[0], jacobian.batch
    computed = size if count == "all" else min(count, size)
    transient = transient_of(length)
    blocks = min(BLOCKS, length - transient)
    bounds = [transient + (length - transient) * i // blocks for i in range(blocks + 1)]
    with_transient = [0, *bounds] if transient else bounds
    growth = frame_growth(jacobian, computed, with_transient, generator=generator)[-blocks:]
    steps = growth.new_tensor(bounds).diff()
    rates = (growth / steps[:, None, None]).flatten(0, 1)
    per_sequence = growth.sum(0) / steps.sum()
    exponents, order = per_sequence.mean(0).sort(descending=True)
    # A frame that has not settled may have exponents out of order within their errors.
    errors = (rates.std(0) / math.sqrt(len(rates)))[order] if len(rates) > 1 else exponents * math.nan
    spread = exponents * math.nan
    if len(per_sequence) > 1:
        spread = per_sequence.std(0)[order]
        # Blocks of one sequence are correlated where memory is long; sequences are not.
        errors = torch.fmax(errors, spread / math.sqrt(len(per_sequence)))
    values: list[float] = exponents.tolist()
    return Lyapunov(
        exponents=tuple(values),
        standard_errors=tuple(errors.tolist()),
        spread=tuple(spread.tolist()),
        driven=bool(inputs[transient:].any()),
        transient=transient,
        live_directions=sum(value * lag > log10_threshold * math.log(10) for value in values),
        kaplan_yorke_dimension=_kaplan_yorke(values, full=computed == size),
        entropy_rate=_entropy_rate(values, full=computed == size),
    )


def _kaplan_yorke(exponents: list[float], *, full: bool) -> float | None:
    """``j + (sum of the first j) / |exponent j+1|`` for the largest ``j`` with a sum not negative."""
    total = 0.0
    for j, exponent in enumerate(exponents):
        if total + exponent < 0:
            return j + total / -exponent
        total += exponent
    return float(len(exponents)) if full else None


def _entropy_rate(exponents: list[float], *, full: bool) -> float | None:
    if not full and exponents[-1] > 0:
        return None
    return sum((exponent for exponent in exponents if exponent > 0), start=0.0)
