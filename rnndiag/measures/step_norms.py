"""Norms of the step Jacobians: what one step can do to a gradient, at worst and in the mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.measures.statistics import median
from rnndiag.operators import hutchinson
from rnndiag.operators.base import BatchedOperator
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


def estimates_rms(jacobian: BatchedOperator) -> bool:
    """Whether the root mean square gain of such Jacobians is an estimate."""
    return isinstance(jacobian, Derivative) and jacobian.shape[0] > EXACT_UP_TO


def step_norms(jacobian: BatchedOperator, *, generator: torch.Generator) -> tuple[StepNorms, Tensor]:
    """The summary, and the spectral norms themselves ``[T, B]`` (relative accuracy 1e-6)."""
    norms = spectral_norms(jacobian, generator=generator)
    if estimates_rms(jacobian):
        squared = hutchinson.frobenius_squared(jacobian, vectors=VECTORS, generator=generator)
    else:
        squared = jacobian.frobenius_squared()
    rms = (squared / jacobian.shape[0]).sqrt()
    summary = StepNorms(
        norm_per_step=tuple(median(norms).tolist()),
        norm_median=float(median(norms.flatten())),
        norm_max=float(norms.max()),
        rms_gain_median=float(median(rms.flatten())),
    )
    return summary, norms
