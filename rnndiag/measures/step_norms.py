"""Norms of the step Jacobians: what one step can do to a gradient, at worst and in the mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.measures.statistics import median
from rnndiag.operators.lanczos import spectral_norms
from rnndiag.operators.structured import StepJacobian


@dataclass(frozen=True, slots=True)
class StepNorms:
    """``||J_t||`` over the trajectory."""

    norm_per_step: tuple[float, ...]
    """spectral norm, median over sequences, for each step"""
    norm_median: float
    """over steps and sequences"""
    norm_max: float
    rms_gain_median: float
    """``||J_t||_F / sqrt(S)``: what a step multiplies a random vector by, root mean square"""


def step_norms(jacobian: StepJacobian, *, generator: torch.Generator) -> tuple[StepNorms, Tensor]:
    """The summary, and the spectral norms themselves ``[T, B]`` (relative accuracy 1e-6)."""
    norms = spectral_norms(jacobian, generator=generator)
    rms = (jacobian.frobenius_squared() / jacobian.shape[0]).sqrt()
    summary = StepNorms(
        norm_per_step=tuple(median(norms).tolist()),
        norm_median=float(median(norms.flatten())),
        norm_max=float(norms.max()),
        rms_gain_median=float(median(rms.flatten())),
    )
    return summary, norms
