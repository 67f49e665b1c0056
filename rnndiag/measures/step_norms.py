"""Norms of the step Jacobians: what one step can do to a gradient, at worst and in the mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.measures.statistics import median
from rnndiag.operators import hutchinson
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.chain import Chain
from rnndiag.operators.derivative import Derivative
from rnndiag.operators.lanczos import scaled_spectral_norms
from rnndiag.operators.row_scaled import unit_scaled
from rnndiag.operators.wide import times_power_of_two

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
    """The summary, and ``log10`` of the spectral norms ``[T, B]`` (relative accuracy of the norms 1e-6).

    A norm that leaves the range of float64 is 0 or infinite in the summary, but its logarithm is still correct.
    """
    chain = jacobian if isinstance(jacobian, Chain) else Chain.of(jacobian)
    windows = [_of_window(maps, generator) for maps in chain.windows()]
    norms, logs, rms = (torch.cat(each) for each in zip(*windows, strict=True))
    summary = StepNorms(
        norm_per_step=tuple(median(norms).tolist()),
        norm_median=float(median(norms.flatten())),
        norm_max=float(norms.max()),
        rms_gain_median=float(median(rms.flatten())),
    )
    return summary, logs


def rms_gains(maps: BatchedOperator) -> Tensor:
    """``||J||_F / sqrt(S)`` of each map, in float64 on the processor: ``[*batch]``."""
    unit, power = unit_scaled(maps)
    return _times(_root_mean_square(unit.frobenius_squared(), maps), power)


def _of_window(maps: BatchedOperator, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Spectral norms, their log10, and root mean square gains, ``[n, B]`` each."""
    scaled, power = scaled_spectral_norms(maps, generator=generator)
    norms, logs = _times(scaled, power), scaled.cpu().double().log10()
    logs = logs if power is None else logs + power.cpu().double() * math.log10(2)
    if isinstance(maps, Derivative):
        return norms, logs, _times(_of_derivative(maps, scaled, generator), None)
    return norms, logs, rms_gains(maps)


def _of_derivative(maps: Derivative, norms: Tensor, generator: torch.Generator) -> Tensor:
    """Root mean square gains of a step function's Jacobians, whose squares may leave the range."""
    sizes = torch.where((norms > 0) & norms.isfinite(), norms, 1.0)
    unit = maps.scaled(1 / sizes)
    if estimates_rms(maps):
        squared = hutchinson.frobenius_squared(unit, vectors=VECTORS, generator=generator)
    else:
        squared = unit.frobenius_squared()
    return _root_mean_square(squared, maps) * sizes


def _root_mean_square(squared: Tensor, maps: BatchedOperator) -> Tensor:
    return (squared.clamp_min(0) / maps.shape[0]).sqrt()  # a sum of squares that cancels may round below zero


def _times(scaled: Tensor, power: Tensor | None) -> Tensor:
    scaled = scaled.cpu().double()
    return scaled if power is None else times_power_of_two(scaled, power.cpu().double())
