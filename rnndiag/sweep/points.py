"""A point's numbers from those of its nets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.measures.statistics import median, median_interval
from rnndiag.measures.verdict import Verdict, judge
from rnndiag.sweep.axes import Condition
from rnndiag.sweep.plan import Plan
from rnndiag.sweep.result import NetMeasure, SweepPoint


def summarize_point(plan: Plan, condition: Condition, nets: Sequence[NetMeasure]) -> SweepPoint:
    """Medians over nets, and the verdict on them.

    Several nets are judged like several sequences of one: ``mixed`` where they truly differ, ``inconclusive`` where
    the interval over them straddles a threshold, ``invalid`` where one of them is.
    """
    theory_rate, _ = plan.theory(condition)
    numbers = _numbers(nets)
    return SweepPoint(
        condition=condition,
        lag=plan.lag(condition),
        verdict=_verdict(plan, nets, numbers),
        rate=None if numbers is None else float(median(numbers.rates)),
        rate_range=None if numbers is None else (float(numbers.rates.min()), float(numbers.rates.max())),
        theory_rate=theory_rate,
        log10_gain=None if numbers is None else float(median(numbers.gains)),
        log10_gain_interval=None if numbers is None else numbers.interval,
        rms_gain=None if numbers is None else float(median(numbers.rms)),
        saturation=None if numbers is None else float(median(numbers.saturation)),
        nets=tuple(nets),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Numbers:
    """By net; of nets all of which have some."""

    rates: Tensor
    gains: Tensor
    interval: tuple[float, float]
    rms: Tensor
    saturation: Tensor


def _numbers(nets: Sequence[NetMeasure]) -> _Numbers | None:
    if any(net.rate is None for net in nets):
        return None
    columns = torch.tensor(
        [(net.rate, net.log10_gain, net.rms_gain, net.saturation) for net in nets], dtype=torch.float64
    )
    rates, gains, rms, saturation = columns.T
    ends = torch.tensor([net.log10_gain_interval for net in nets], dtype=torch.float64)
    return _Numbers(rates, gains, median_interval(gains, ends), rms, saturation)


def _verdict(plan: Plan, nets: Sequence[NetMeasure], numbers: _Numbers | None) -> Verdict:
    if numbers is None:
        return "invalid"
    if len(nets) == 1:
        return nets[0].verdict
    return judge(numbers.gains[None], numbers.interval, plan.settings.thresholds)
