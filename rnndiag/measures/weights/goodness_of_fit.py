"""Tests of a sample against a law, with p-values that are uniform where it was drawn from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Family = Literal["uniform", "normal", "truncated"]
"""Centered laws by one scale: the bound of a uniform one, the deviation of a normal one, cut at two of its own."""

NEGLIGIBLE = 1e-12
"""A mean square this unlikely settles the matter."""

SMALLEST = 8
"""Rows and columns from which on the limit for large matrices is near enough."""

TRUNCATED = 0.87962566103423978
"""Deviation of a unit normal cut at two deviations, as Keras and JAX draw it."""


def _uniform(entries: Tensor, bound: float) -> Tensor:
    return ((entries / bound + 1) / 2).clamp(0, 1)


def _normal(entries: Tensor, deviation: float) -> Tensor:
    levels: Tensor = torch.special.ndtr(entries / deviation)
    return levels


def _truncated(entries: Tensor, deviation: float) -> Tensor:
    inside = math.erf(math.sqrt(2))
    return ((_normal(entries * TRUNCATED, deviation) - 0.5) / inside + 0.5).clamp(0, 1)


_CUMULATIVE: dict[Family, Callable[[Tensor, float], Tensor]] = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated": _truncated,
}
"""Distribution functions by family."""

_REACH: dict[Family, float] = {"uniform": 1.0, "normal": math.inf, "truncated": 2 / TRUNCATED}
"""The largest entry that a law can give, in units of its scale."""

_MOMENTS: dict[Family, tuple[float, float]] = {
    "uniform": (1 / 3, 9 / 5),
    "normal": (1.0, 3.0),
    "truncated": (1.0, 2.3655392),
}
"""Variance at unit scale, and ``E[w^4] / E[w^2]^2``."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A matrix, as far as the tests need it."""

    ordered: Tensor
    """its entries, sorted"""
    mean_square: float
    dispersion: float | None
    """``n p ||W^T W||_F^2 / ||W||_F^4 - n - p``; None where it is too small to have a spectrum to speak of"""

    @classmethod
    def of(cls, weight: Tensor) -> Sample:
        """Of a weight ``[n, p]`` that is not all zeros, float64 on the CPU."""
        entries = weight.flatten()
        return cls(entries.sort().values, float(entries.square().mean()), _dispersion(weight))


def _dispersion(weight: Tensor) -> float | None:
    rows, columns = weight.shape
    if min(rows, columns) < SMALLEST:
        return None
    scaled = weight / weight.abs().max()  # fourth powers of the entries themselves might overflow
    gram = scaled.T @ scaled if rows >= columns else scaled @ scaled.T
    return rows * columns * float(gram.square().sum()) / float(scaled.square().sum()) ** 2 - rows - columns


def known_law(sample: Sample, family: Family, scale: float, rounding: float = 0.0) -> float:
    """p-value of independent entries from a law without free parameters.

    Three tests, of the entries' distribution (Kolmogorov-Smirnov), of their mean square (its normal limit) and of
    their independence (``sphericity``), put together by Sidak's formula ``1 - (1 - min p)^3``. An entry that the
    law cannot give, but for its relative ``rounding``, is proof by itself.
    """
    ordered = sample.ordered
    largest = max(-float(ordered[0]), float(ordered[-1]))
    if largest > _REACH[family] * scale * (1 + 1e-5 + rounding):
        return 0.0
    variance, kurtosis = _MOMENTS[family]
    expected = variance * scale * scale
    excess = sample.mean_square / expected - 1 if expected > 0 else math.inf
    scaled = math.erfc(math.fabs(excess) * math.sqrt(len(ordered) / (kurtosis - 1) / 2))
    if scaled < NEGLIGIBLE:
        return 0.0
    root = math.sqrt(len(ordered))
    shaped = kolmogorov_survival((root + 0.12 + 0.11 / root) * distance_from(ordered, family, scale))
    return _all_of(shaped, scaled, sphericity(sample, kurtosis))


def unknown_gaussian(sample: Sample) -> float:
    """p-value of independent Gaussian entries whose scale is not known: of their moments and independence."""
    return _all_of(gaussian_p_value(sample.ordered), sphericity(sample, _MOMENTS["normal"][1]))


def _all_of(*p_values: float) -> float:
    """Sidak's formula: the chance that the least of independent p-values is as small as this."""
    return -math.expm1(len(p_values) * math.log1p(-min(p_values))) if min(p_values) < 1 else 1.0


def sphericity(sample: Sample, kurtosis: float) -> float:
    """p-value of independent entries of one variance, whatever it is, from the spectrum.

        n p ||W^T W||_F^2 / ||W||_F^4 - n - p   ->   N(k - 2, 4),   k the entries' kurtosis

    Larger where some directions stand out, smaller where all are too much alike (orthogonal matrices). Sources:
    John 1972; Ledoit & Wolf 2002; for other than Gaussian entries Wang & Yao 2013.
    """
    if sample.dispersion is None:
        return 1.0
    return math.erfc(math.fabs(sample.dispersion - (kurtosis - 2)) / (2 * math.sqrt(2)))


def distance_from(entries: Tensor, family: Family, scale: float) -> float:
    """The largest difference of the two distribution functions."""
    if scale == 0:
        return 1.0
    levels = _CUMULATIVE[family](entries, scale)
    steps = torch.arange(len(entries), dtype=torch.float64) / len(entries)
    return float(torch.maximum(levels - steps, steps + 1 / len(entries) - levels).max())


def kolmogorov_survival(x: float) -> float:
    """``P(K > x) = 2 sum_k (-1)^(k-1) exp(-2 k^2 x^2)``, by its dual series where that converges slowly.

    With ``x = (sqrt N + 0.12 + 0.11 / sqrt N) D`` good from a handful of entries on (Stephens 1970).
    """
    if x < 0.2:
        return 1.0
    if x < 1:
        terms = (math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * x * x)) for k in range(1, 6))
        return 1 - math.sqrt(2 * math.pi) / x * math.fsum(terms)
    return min(1.0, max(0.0, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 6))))


def gaussian_p_value(entries: Tensor) -> float:
    """Of a centered Gaussian whose deviation is not known: mean, skewness and kurtosis, none of which needs it.

    Each is turned into a standard normal and their squares summed, a chi-square of three degrees: the mean by
    its root, skewness by D'Agostino's transformation (1970), kurtosis by Anscombe and Glynn's (1983).
    """
    count = len(entries)
    variance = float(entries.var(correction=0))
    if count < 20 or variance == 0:
        return 0.0
    mean = float(entries.mean())
    centered = (entries - mean) / math.sqrt(variance)
    squared = centered * centered
    skewness, kurtosis = float((squared * centered).mean()), float((squared * squared).mean())
    mean_score = mean / math.sqrt(variance / (count - 1))
    total = mean_score**2 + _skewness_score(skewness, count) ** 2 + _kurtosis_score(kurtosis, count) ** 2
    return math.erfc(math.sqrt(total / 2)) + math.sqrt(2 * total / math.pi) * math.exp(-total / 2)


def _skewness_score(skewness: float, n: int) -> float:
    y = skewness * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta = 3 * (n * n + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = math.sqrt(2 * (beta - 1)) - 1
    return math.asinh(y / math.sqrt(2 / (w2 - 1))) / math.sqrt(math.log(w2) / 2)


def _kurtosis_score(kurtosis: float, n: int) -> float:
    expected = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - expected) / math.sqrt(variance)
    beta = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / beta * (2 / beta + math.sqrt(1 + 4 / beta**2))
    root = 1 + x * math.sqrt(2 / (a - 4))
    cube = math.copysign(math.fabs((1 - 2 / a) / root) ** (1 / 3), root) if root else math.inf
    return (1 - 2 / (9 * a) - cube) / math.sqrt(2 / (9 * a))
