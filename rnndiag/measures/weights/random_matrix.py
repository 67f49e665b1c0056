"""What the spectrum of independent entries looks like, and what stands out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

CONFIDENCE = 0.999
"""Share of random matrices without any outlier."""

TRACY_WIDOM_999 = 3.2724
"""That quantile of the Tracy-Widom law of order 1."""

SCALE_ERROR = 2.5
"""Times ``1 / min(rows, columns)``: allowance for the error of a scale that comes from one singular value."""

NODES = 4096


@dataclass(frozen=True, slots=True)
class Bulk:
    """The random part of a matrix: what independent entries of one scale would fill."""

    scale: float
    """gain: deviation of the entries times ``sqrt(columns)``, from the median singular value"""
    edge: float
    """the largest singular value of independent entries of that scale; ``2 scale`` for a square matrix"""
    distance: float
    """Kolmogorov's, from the singular values to the quarter circle (Marchenko-Pastur); of order ``1/H`` for
    independent entries, 0.5 for an orthogonal matrix"""
    singular_outliers: int
    """singular values beyond the edge and its Tracy-Widom margin; none in 999 random matrices of 1000"""
    eigenvalue_outliers: int
    """eigenvalues outside the circular law's disc and its margin, likewise"""


def random_bulk(singular: Tensor, moduli: Tensor | None, rows: int, columns: int) -> Bulk:
    """Fit the bulk to a matrix's spectrum and count what lies outside.

    The scale is the ratio of the median singular value to that of the law (Gavish & Donoho 2014): a few large
    directions, which inflate the entries' deviation, leave it alone. Sources: Marchenko & Pastur 1967 for the
    bulk, Johnstone 2001 for the largest singular value, Girko 1985 for the disc, ``radius_share`` for its margin.

    Args:
        singular: ``min(rows, columns)`` singular values, descending, on the CPU.
        moduli: of the eigenvalues, likewise; None for a matrix that is not square.
        rows: of the matrix.
        columns: likewise.
    """
    count = len(singular)
    quantiles = singular_law(rows, columns)
    deviation = float(singular.median() if count % 2 else singular[count // 2 - 1 : count // 2 + 1].mean())
    deviation /= float(np.interp(0.5, np.linspace(0, 1, NODES), quantiles))
    if deviation == 0:  # of low rank: nothing but outliers
        found = 0 if moduli is None else int((moduli > 0).sum())
        return Bulk(0.0, 0.0, 1.0, int((singular > 0).sum()), found)
    levels = np.interp(singular.flip(0).double().numpy() / deviation, quantiles, np.linspace(0, 1, NODES))
    steps = np.arange(count) / count
    distance = float(np.maximum(levels - steps, steps + 1 / count - levels).max())
    slack = 1 + SCALE_ERROR / count
    largest = largest_singular(rows, columns, TRACY_WIDOM_999) * slack
    eigenvalues = 0
    if moduli is not None and rows > 1:  # one entry has no bulk
        eigenvalues = int((moduli > deviation * math.sqrt(rows) * _radius(rows) * slack).sum())
    return Bulk(
        scale=deviation * math.sqrt(columns),
        edge=deviation * (math.sqrt(rows) + math.sqrt(columns)),
        distance=distance,
        singular_outliers=int((singular > deviation * largest).sum()),
        eigenvalue_outliers=eigenvalues,
    )


def largest_singular(rows: int, columns: int, deviations: float) -> float:
    """The largest singular value of ``N(0, 1)`` entries that lies so many Tracy-Widom units from its centre.

        lambda = mu + s x,   mu = (sqrt(n-1) + sqrt p)^2,   s = sqrt(mu) (1/sqrt(n-1) + 1/sqrt p)^(1/3)

    Source: Johnstone 2001.
    """
    return math.sqrt(max(0.0, _center(rows, columns) + _width(rows, columns) * deviations))


def _center(rows: int, columns: int) -> float:
    return (math.sqrt(max(rows, columns) - 1) + math.sqrt(min(rows, columns))) ** 2


def _width(rows: int, columns: int) -> float:
    n, p = math.sqrt(max(rows, columns, 2) - 1), math.sqrt(min(rows, columns))
    return (n + p) * math.pow(1 / n + 1 / p, 1 / 3)


@lru_cache(maxsize=64)
def singular_law(rows: int, columns: int) -> Floats:
    """Quantiles, at ``NODES`` equal steps of probability, of the singular values of ``N(0, 1)`` entries.

    With ``c = p/n`` and ``lambda = n (1 + c + 2 sqrt(c) cos theta)``, the Marchenko-Pastur density becomes
    ``2 sin^2 theta / (pi (1 + c + 2 sqrt(c) cos theta))``, smooth enough to be summed.
    """
    n, p = max(rows, columns), min(rows, columns)
    c = p / n
    theta = np.pi * (np.arange(8 * NODES) + 0.5) / (8 * NODES)
    level = 1 + c + 2 * math.sqrt(c) * np.cos(theta)
    # The density runs from the upper edge down.
    share = 1 - np.cumsum(np.sin(theta) ** 2 / level) / np.sum(np.sin(theta) ** 2 / level)
    quantiles: Floats = np.interp(np.linspace(0, 1, NODES), share[::-1], np.sqrt(n * level[::-1]))
    return quantiles


@lru_cache(maxsize=64)
def _radius(size: int) -> float:
    return radius_quantile(size, CONFIDENCE)


def radius_quantile(size: int, share: float) -> float:
    """The spectral radius that a share of real ``n x n`` matrices stays under, entries ``N(0, 1/n)``."""
    low, high = 0.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if radius_share(size, middle) < share else (low, middle)
    return (low + high) / 2


def radius_share(size: int, radius: float) -> float:
    """Distribution function of the spectral radius of a real ``n x n`` matrix, entries ``N(0, 1/n)``; approximate.

        prod_k P(Gamma_k <= n r^2)^(1/2)  exp(-2 N((r - 1) sqrt n))

    The first factor is for complex eigenvalues: the squared radii of a complex matrix are independent Gamma
    variables (Kostlan 1992), and a real matrix has them in pairs (Rider & Sinclair 2014). The second is for real
    ones, ``N`` of which lie beyond either edge: the integral of their density there (Forrester & Nagao 2007),
    ``erfc(sqrt 2 x) / sqrt(8 pi) + exp(-x^2) (1 + erf x) / (4 sqrt pi)``.
    """
    orders = torch.arange(1, size + 1, dtype=torch.float64)
    inside = torch.special.gammainc(orders, torch.full_like(orders, size * radius**2))
    edge = (radius - 1) * math.sqrt(size)
    beyond = (math.exp(-2 * edge**2) / math.sqrt(2 * math.pi) - edge * math.erfc(math.sqrt(2) * edge)) / 2
    beyond = beyond / math.sqrt(2 * math.pi) + (4 - (1 + math.erf(edge)) ** 2) / 16
    return math.exp(float(inside.log().sum()) / 2 - 2 * beyond)
