r"""Spectral norms of a batch of operators by Lanczos on ``A = J^T J`` or ``J J^T``, all columns advancing together.

Each column runs the three-term recurrence (Lanczos 1950; Golub & Van Loan, ch. 10)

    A v_j = beta_{j-1} v_{j-1} + alpha_j v_j + beta_j v_{j+1}

whose tridiagonal matrix ``T_m`` has a largest eigenvalue ``theta`` that grows towards ``||J||^2``. With
``s`` its unit eigenvector, ``rho = beta_m |s_m|`` is the residual of the Ritz pair, so an eigenvalue of
``A`` lies within ``rho`` of ``theta`` (Parlett 1980, 4.5): a bound, not an estimate. Columns whose
``rho`` is small enough leave the GEMMs. No reorthogonalisation is needed: lost orthogonality repeats
converged Ritz values, it does not spoil them (Paige 1980).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnndiag.machine.device import at_once
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.row_scaled import unit_scaled
from rnndiag.operators.single import near_leading
from rnndiag.operators.squared import Squared, squared
from rnndiag.operators.tridiagonal import largest_ritz, looked_at, ritz_residual
from rnndiag.operators.wide import times_power_of_two

CHUNK_BYTES = 4 << 20
"""Size of one vector over all columns of a chunk, so that a step's few vectors stay in cache."""

FIRST_CHECK = 8
CHECK_EVERY = 4
"""Steps between looks at the Ritz pairs; a look costs about as much as a step of a small operator."""


def spectral_norms(operator: BatchedOperator, *, generator: torch.Generator, rtol: float = 1e-6) -> Tensor:
    """``||J||_2`` of every map of the batch.

    Args:
        operator: maps ``R^n -> R^m`` with any batch axes.
        generator: draws the start vectors (on the CPU, so that every device sees the same).
        rtol: relative accuracy of the norms.

    Returns:
        ``[*batch]``, in the operator's dtype; NaN where the map is not finite.
    """
    norms, power = scaled_spectral_norms(operator, generator=generator, rtol=rtol)
    return norms if power is None else times_power_of_two(norms, power)


def scaled_spectral_norms(
    operator: BatchedOperator, *, generator: torch.Generator, rtol: float = 1e-6
) -> tuple[Tensor, Tensor | None]:
    """``||J||_2 = value * 2^power`` as the two ``[*batch]``: the norm itself may leave the range. None: no power."""
    unit, power = unit_scaled(operator)
    return _norms(unit, generator, rtol), power


def _norms(operator: BatchedOperator, generator: torch.Generator, rtol: float) -> Tensor:
    flat = operator.flatten()
    maps, width = squared(flat)
    like = flat.reference
    size = max(1, at_once(CHUNK_BYTES, like.device) // (like.element_size() * max(flat.shape)))
    start = torch.randn(width, dtype=torch.float64, generator=generator)
    start = (start / start.norm()).to(like)
    norms = [
        _chunk_norms(maps[i : i + size], start.expand(len(flat[i : i + size]), -1), rtol)
        for i in range(0, len(flat), size)
    ]
    return torch.cat(norms).reshape(operator.batch)


def _chunk_norms(maps: Squared, v: Tensor, rtol: float) -> Tensor:
    count, width = v.shape
    # Squaring squares the scale of J; brought to 1, neither a deeply saturated nor an exploding step is lost.
    scale = maps.magnitude(v)
    limits = torch.finfo(scale.dtype)  # a number and its reciprocal are normal between them
    scale = torch.where(scale > 0, scale.clamp(4 * limits.tiny, limits.max / 4), torch.ones_like(scale))
    maps = maps.scaled(1 / scale)
    largest, active = torch.zeros(count, dtype=torch.float64), torch.arange(count)
    v, single, next_check = v.clone(memory_format=torch.contiguous_format), maps.single(), min(FIRST_CHECK, width)
    if single is not None:
        v, next_check = near_leading(single, v), min(CHECK_EVERY, width)
    v_old, out, scratch, beta = torch.zeros_like(v), torch.empty_like(v), torch.empty_like(v), v.new_zeros(count)
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    unseen: list[Tensor] = []
    above = torch.full((count,), torch.inf, dtype=torch.float64)
    # For the root of an isolated value 2 rtol would do. Inside a tight cluster the pair may belong to a neighbour
    # of the largest value, if the start vector has but a share c of the largest's direction: residual / c away.
    # In single precision nothing under a few eps is ever reached.
    target = max(rtol / 20, 8 * torch.finfo(v.dtype).eps)
    # The Krylov space is exhausted after n steps in exact arithmetic; rounding may ask for a few more.
    for step in range(1, 2 * width + 2):
        w = maps(v, out, scratch)
        alpha = torch.mul(v, w, out=scratch).sum(-1)
        w.addcmul_(alpha[:, None], v, value=-1).addcmul_(beta[:, None], v_old, value=-1)
        beta = torch.linalg.vector_norm(w, dim=-1)
        unseen += alpha, beta
        v_old, v, out = v, w.div_(beta.clamp_min(torch.finfo(w.dtype).tiny)[:, None]), v_old
        if step < next_check:
            continue
        seen = looked_at(unseen)
        alphas, betas, unseen = [*alphas, *seen[::2]], [*betas, *seen[1::2]], []
        theta = largest_ritz(alphas, betas, above)
        residual = ritz_residual(theta, alphas, betas)
        largest[active] = theta
        open_ = residual > target * theta
        if not bool(open_.any()):
            break
        above = theta + residual
        next_check = step + _steps_to_go(step, residual / theta, target)
        if int(open_.sum()) < 0.8 * len(active):  # copying the columns costs about one step
            active, above, left = active[open_], above[open_], open_.nonzero().flatten().to(v.device)
            v, v_old, beta, maps = v[left], v_old[left], beta[left], maps[left]
            out, scratch = out[: len(v)], scratch[: len(v)]
            alphas = [a[open_] for a in alphas]
            betas = [b[open_] for b in betas]
    return largest.sqrt().to(scale) * scale


def _steps_to_go(step: int, residual: Tensor, target: float) -> int:
    """Steps until the faster columns are due, from the mean rate at which the residuals have fallen."""
    typical = float(residual.kthvalue(1 + len(residual) // 4).values)
    if not target < typical < 1:
        return CHECK_EVERY
    per_step = -math.log(typical) / step
    return max(CHECK_EVERY, int(0.8 * math.log(typical / target) / per_step))
