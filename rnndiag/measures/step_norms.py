"""Norms of the step Jacobians: what one step can do to a gradient, at worst and in the mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.measures.statistics import median
from rnndiag.operators import hutchinson
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.chain import Chain
from rnndiag.operators.derivative import Derivative
from rnndiag.operators.lanczos import spectral_norms

EXACT_UP_TO = 128
"""State numbers up to which a step function's Jacobian is applied to every unit vector."""

VECTORS = 64


@dataclass(frozen=True, slots=True)
class StepNorms:
    """``||J_t||`` over the trajectory."""

    norm_per_step: tuple[float, ...]
    """spectral norm, median over sequences, for each step"""
    norm_median: float
    """over steps and sequences"""
    norm_max: float
    rms_gain_median: float
    """``||J_t||_F / sqrt(S)``: what a step multiplies a random vector by, root mean square. Exact, but for a step
    function of more than ``EXACT_UP_TO`` state numbers, where ``VECTORS`` random vectors stand for all"""
    steps: tuple[int, ...] | None = None
    """the steps that ``norm_per_step`` is given at, from 1; None: every step"""


def estimates_rms(jacobian: BatchedOperator) -> bool:
    """Whether the root mean square gain of such Jacobians is an estimate."""
    return isinstance(jacobian, Derivative) and jacobian.shape[0] > EXACT_UP_TO


def step_norms(
    jacobian: BatchedOperator | Chain[BatchedOperator], *, generator: torch.Generator
) -> tuple[StepNorms, Tensor]:
    """The summary, and the spectral norms themselves ``[T, B]`` (relative accuracy 1e-6)."""
    chain = jacobian if isinstance(jacobian, Chain) else Chain.of(jacobian)
    windows = [_of_window(maps, generator) for maps in chain.windows()]
    norms, rms = (torch.cat(each) for each in zip(*windows, strict=True))
    summary = StepNorms(
        norm_per_step=tuple(median(norms).tolist()),
        norm_median=float(median(norms.flatten())),
        norm_max=float(norms.max()),
        rms_gain_median=float(median(rms.flatten())),
    )
    return summary, norms


def _of_window(maps: BatchedOperator, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spectral norms and root mean square gains, ``[n, B]`` each."""
    norms = spectral_norms(maps, generator=generator)
    if estimates_rms(maps):
        squared = hutchinson.frobenius_squared(maps, vectors=VECTORS, generator=generator)
    else:
        squared = maps.frobenius_squared()
    return norms, (squared / maps.shape[0]).sqrt()
