"""The bulk of independent entries, and what is planted outside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rnndiag.measures.weights.random_matrix import NODES, Bulk, random_bulk, singular_law
from rnndiag.measures.weights.recurrent_weight import spectrum

DRAWS = 60


def drawn(rows: int, columns: int, seed: int, *, uniform: bool = False) -> Tensor:
    """Entries of variance ``1 / columns``."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(rows, columns, dtype=torch.float64)
    if uniform:
        return weight.uniform_(-math.sqrt(3 / columns), math.sqrt(3 / columns), generator=generator)
    return weight.normal_(0, 1 / math.sqrt(columns), generator=generator)


def test_the_square_law_is_the_quarter_circle() -> None:
    """Its distribution function in closed form: ``(x sqrt(4 - x^2) / 2 + 2 asin(x / 2)) / pi``."""
    quantiles = singular_law(100, 100)[1:-1] / 10
    share = [(x * math.sqrt(max(0, 4 - x * x)) / 2 + 2 * math.asin(min(1, x / 2))) / math.pi for x in quantiles]
    assert share == pytest.approx([k / (NODES - 1) for k in range(1, NODES - 1)], abs=1e-3)


def bulk(weight: Tensor) -> Bulk:
    rows, columns = weight.shape
    moduli = torch.linalg.eigvals(weight).abs() if rows == columns else None
    return random_bulk(torch.linalg.svdvals(weight), moduli, rows, columns)


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (60, 60), (60, 20), (20, 60)])
def test_independent_entries_have_no_outliers(rows: int, columns: int, uniform: bool) -> None:
    found = [bulk(3 * drawn(rows, columns, seed, uniform=uniform)) for seed in range(DRAWS)]
    assert sum(each.singular_outliers + each.eigenvalue_outliers for each in found) <= 1
    assert sum(each.scale for each in found) / DRAWS == pytest.approx(3, rel=0.05)
    assert found[0].edge == pytest.approx(found[0].scale * (1 + math.sqrt(rows / columns)))
    assert sum(each.distance for each in found) / DRAWS < 3 / min(rows, columns)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("strength", [5.0, 50.0])
def test_planted_directions_are_counted_and_leave_the_scale_alone(rank: int, strength: float) -> None:
    weight = drawn(100, 100, 1)
    axes = torch.linalg.qr(drawn(100, rank, 2)).Q
    block = spectrum(weight + strength * axes @ axes.T)
    assert (block.singular_outliers, block.outliers) == (rank, rank)
    assert block.bulk_scale == pytest.approx(1, rel=0.06)
    assert block.bulk_scale == pytest.approx(spectrum(weight).bulk_scale, rel=0.06)


def test_an_outlier_of_one_spectrum_need_not_be_one_of_the_other() -> None:
    """``u v^T`` with ``u`` and ``v`` orthogonal is nilpotent: a large singular value, no eigenvalue."""
    axes = torch.linalg.qr(drawn(100, 2, 2)).Q
    block = spectrum(drawn(100, 100, 1) / 20 + axes[:, :1] @ axes[:, 1:].T)
    assert block.singular_outliers == 1


def test_orthogonal_and_low_rank_matrices_are_no_bulk() -> None:
    orthogonal = spectrum(torch.linalg.qr(drawn(50, 50, 3)).Q)
    assert (orthogonal.singular_outliers, orthogonal.outliers) == (0, 0)
    assert orthogonal.bulk_distance > 0.4
    low = torch.zeros(20, 20, dtype=torch.float64)
    low[0, 0] = 2.0
    block = spectrum(low)
    assert (block.bulk_scale, block.singular_outliers, block.outliers) == (0.0, 1, 1)
    assert spectrum(torch.zeros(5, 5, dtype=torch.float64)).singular_outliers == 0
