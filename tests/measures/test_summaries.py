"""What measures are summed up by: spectra, medians with their intervals, verdicts, dimensions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.config.settings import Thresholds
from rnndiag.measures.lyapunov import _kaplan_yorke
from rnndiag.measures.statistics import median, median_interval
from rnndiag.measures.verdict import judge, sequences_to_settle
from rnndiag.measures.weights.recurrent_weight import spectrum


@given(st.integers(1, 12), st.integers(0, 100))
@settings(deadline=None)
def test_spectrum_of_a_matrix(size: int, seed: int) -> None:
    w = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    measured = spectrum(w)
    assert measured.spectral_radius <= measured.spectral_norm * (1 + 1e-12)
    assert 0 <= measured.nonnormality <= 1
    assert 1 - 1e-9 <= measured.effective_rank <= size + 1e-9
    symmetric = spectrum(w + w.T)
    assert symmetric.nonnormality == pytest.approx(0, abs=1e-6)
    assert symmetric.spectral_radius == pytest.approx(symmetric.spectral_norm)


def test_outliers_of_the_bulk_are_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(200, 200, dtype=torch.float64, generator=generator) / 200**0.5
    assert spectrum(w).outliers == 0
    u = torch.randn(200, dtype=torch.float64, generator=generator)
    assert spectrum(w + 3 * torch.outer(u, u) / (u @ u)).outliers == 1


def test_nilpotent_matrix_is_as_far_from_normal_as_can_be() -> None:
    shift = torch.diag(torch.ones(5, dtype=torch.float64), 1)
    measured = spectrum(shift)
    assert measured.nonnormality == pytest.approx(1)
    assert measured.condition_number == math.inf


def test_median_and_its_interval() -> None:
    values = torch.tensor([-math.inf, 1.0, 2.0, 3.0])
    assert float(median(values)) == 1.5
    sequences = torch.arange(16).double()
    assert median_interval(sequences, sequences) == (3.0, 12.0)  # P(Bin(16, 1/2) <= 3) = 0.0106
    few = torch.tensor([[1.0, 5.0], [2.0, 9.0]])
    assert median_interval(few.mean(0), few) == (1.0, 9.0)


def test_interval_covers_the_median_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, 16, dtype=torch.float64, generator=generator).exp()
    hits = [low <= 1 <= high for low, high in (median_interval(d, d) for d in draws)]
    assert 0.95 <= sum(hits) / len(hits) <= 0.99


BAND = Thresholds()


@pytest.mark.parametrize(
    ("samples", "interval", "verdict"),
    [
        ([-9.0, -8.0], (-9, -8), "vanishing"),
        ([9.0, 8.0], (8, 9), "exploding"),
        ([0.0, 1.0], (0, 1), "healthy"),
        ([-3.0, 3.0], (-3, 3), "healthy"),
        ([-3.2, -2.8], (-3.2, -2.8), "inconclusive"),
        ([-9.0, 0.0], (-9, 0), "mixed"),
        ([-9.0, 9.0], (-9, 9), "mixed"),
        ([-9.0, -9.0, -9.0, 0.0], (-9, -9), "mixed"),
        ([-9.0, -9.0, -9.0, -9.0, 0.0], (-9, -9), "vanishing"),
        ([math.nan, 0.0], (0, 0), "invalid"),
        ([-math.inf, -math.inf], (-math.inf, -math.inf), "vanishing"),
    ],
)
def test_verdicts(samples: list[float], interval: tuple[float, float], verdict: str) -> None:
    assert judge(torch.tensor([samples]).double(), interval, BAND) == verdict


def test_sequences_to_settle_shrink_the_interval_as_promised() -> None:
    assert sequences_to_settle(-3.1, (-3.5, -2.7), 16, BAND) == 16 * 16 + 1
    assert sequences_to_settle(0.0, (-1, 1), 16, BAND) is None
    assert sequences_to_settle(-3.0, (-3.5, -2.5), 16, BAND) is None


def test_kaplan_yorke_dimension() -> None:
    assert _kaplan_yorke([0.5, 0.0, -1.0], full=True) == pytest.approx(2.5)
    assert _kaplan_yorke([-1.0, -2.0], full=True) == 0
    assert _kaplan_yorke([0.5, 0.1], full=False) is None


@pytest.mark.parametrize("count", [*range(1, 60), 999, 1000])
def test_the_interval_is_that_of_exact_binomials(count: int) -> None:
    ordered = torch.arange(count, dtype=torch.float64)
    low, high = median_interval(ordered, ordered)
    outside = [Fraction(sum(math.comb(count, i) for i in range(k)), 2**count) for k in range(count // 2 + 1)]
    widest = max(k for k, tail in enumerate(outside) if 2 * tail <= Fraction(5, 100))
    assert (low, high) == ((0, count - 1) if widest == 0 else (widest - 1, count - widest))


def test_the_interval_of_a_million_sequences_is_at_hand() -> None:
    values = torch.arange(10**6, dtype=torch.float64)
    low, high = median_interval(values, values)
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(10**6) / 2, rel=1e-2)
