"""Medians, and intervals for them that assume no distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CONFIDENCE = 0.95
FEWEST = 6
"""sequences that reach it: 1 - 2 / 2^6 = 0.969, and 0.938 for five"""


def median(values: Tensor) -> Tensor:
    """Median over the last axis, the mean of the middle two for an even count; infinities allowed."""
    ordered = values.sort(dim=-1).values
    n = values.shape[-1]
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def median_interval(sequences: Tensor, samples: Tensor) -> tuple[float, float]:
    """A 95 % confidence interval for the median over sequences.

    The order statistics ``k+1`` and ``n-k`` enclose the median with probability ``1 - 2 P(Bin(n, 1/2) <= k)``
    whatever the distribution (David & Nagaraja 2003, 7.1). Fewer than six sequences cannot reach 95 %:
    then the interval is the whole range of the samples.

    Args:
        sequences: ``[B]``, one value a sequence.
        samples: every sample behind them, any shape.
    """
    n = sequences.numel()
    i = torch.arange(n // 2 + 1, dtype=torch.float64)
    logs = math.lgamma(n + 1) - torch.lgamma(i + 1) - torch.lgamma(n - i + 1) - n * math.log(2)
    k = int((2 * logs.exp().cumsum(0) <= 1 - CONFIDENCE).sum()) - 1
    if k < 0:
        return float(samples.min()), float(samples.max())
    ordered = sequences.sort().values
    return float(ordered[k]), float(ordered[n - 1 - k])
