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

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.squared import Squared, squared

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
    flat = operator.flatten()
    maps, width = squared(flat)
    like = flat.reference
    size = max(1, CHUNK_BYTES // (like.element_size() * max(flat.shape)))
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
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    maps = maps.scaled(1 / scale)
    largest = v.new_zeros(count)
    active = torch.arange(count, device=v.device)
    v = v.clone(memory_format=torch.contiguous_format)
    v_old, out, scratch, beta = torch.zeros_like(v), torch.empty_like(v), torch.empty_like(v), v.new_zeros(count)
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    above = v.new_full((count,), torch.inf)
    # For the root of an isolated value 2 rtol would do. Inside a tight cluster the pair may belong to a neighbour
    # of the largest value, if the start vector has but a share c of the largest's direction: residual / c away.
    target = rtol / 20
    next_check = min(FIRST_CHECK, width)
    # The Krylov space is exhausted after n steps in exact arithmetic; rounding may ask for a few more.
    for step in range(1, 2 * width + 2):
        w = maps(v, out, scratch)
        alpha = torch.mul(v, w, out=scratch).sum(-1)
        w.addcmul_(alpha[:, None], v, value=-1).addcmul_(beta[:, None], v_old, value=-1)
        beta = torch.linalg.vector_norm(w, dim=-1)
        alphas.append(alpha)
        betas.append(beta)
        v_old, v, out = v, w.div_(beta.clamp_min(torch.finfo(w.dtype).tiny)[:, None]), v_old
        if step < next_check:
            continue
        theta = _largest_ritz(alphas, betas, above)
        residual = _ritz_residual(theta, alphas, betas)
        largest[active] = theta
        open_ = residual > target * theta
        if not bool(open_.any()):
            break
        above = theta + residual
        next_check = step + _steps_to_go(step, residual / theta, target)
        if int(open_.sum()) < 0.8 * len(active):  # copying the columns costs about one step
            active, v, v_old, beta, above = active[open_], v[open_], v_old[open_], beta[open_], above[open_]
            maps, out, scratch = maps[open_], out[: len(v)], scratch[: len(v)]
            alphas = [a[open_] for a in alphas]
            betas = [b[open_] for b in betas]
    return largest.sqrt() * scale


def _steps_to_go(step: int, residual: Tensor, target: float) -> int:
    """Steps until the faster columns are due, from the mean rate at which the residuals have fallen."""
    typical = float(residual.kthvalue(1 + len(residual) // 4).values)
    if not target < typical < 1:
        return CHECK_EVERY
    per_step = -math.log(typical) / step
    return max(CHECK_EVERY, int(0.8 * math.log(typical / target) / per_step))


def _largest_ritz(alphas: list[Tensor], betas: list[Tensor], above: Tensor) -> Tensor:
    """Largest eigenvalue ``theta`` of each tridiagonal matrix.

    Laguerre's iteration on the characteristic polynomial from above: monotone and cubic, since all
    its roots are real (Wilkinson 1965, 7.23).

    Args:
        alphas: the diagonal.
        betas: what lies beside it, and one more.
        above: where to start, if it proves to lie right of all roots; else Gershgorin's bound.
    """
    m = len(alphas)
    eps = torch.finfo(alphas[0].dtype).eps
    squares = [beta.square() for beta in betas[:-1]]
    zero = torch.zeros_like(alphas[0])
    left, right = [zero, *betas[:-1]], [*betas[:-1], zero]
    gershgorin = torch.stack([a + b + c for a, b, c in zip(alphas, left, right, strict=True)]).amax(0)
    x = torch.fmin(gershgorin, above)
    x = torch.where(_right_of_all(x, alphas, squares), x, gershgorin) * (1 + 8 * eps)
    for _ in range(40):
        slope, curvature = _log_derivatives(x, alphas, squares)
        root = ((m - 1) * (m * curvature - slope.square())).clamp_min_(0).sqrt_()
        move = m / (slope + root)
        # Right of all roots p'/p is positive; rounding may carry x onto or past the root: it has arrived.
        move = torch.where((slope > 0) & torch.isfinite(move), move, zero)
        x = x - move
        if not bool((move > 4 * eps * x).any()):
            break
    return x


def _right_of_all(x: Tensor, alphas: list[Tensor], squares: list[Tensor]) -> Tensor:
    """Whether ``x I - T`` is positive definite: whether all its pivots are positive (Sturm)."""
    pivots = [x - alphas[0]]
    for alpha, square in zip(alphas[1:], squares, strict=True):
        pivots.append(torch.addcdiv(x - alpha, square, pivots[-1], value=-1))
    return torch.stack(pivots).amin(0) > 0


def _log_derivatives(x: Tensor, alphas: list[Tensor], squares: list[Tensor]) -> tuple[Tensor, Tensor]:
    """``p'/p`` and ``(p'/p)^2 - p''/p`` for ``p(x) = det(x I - T) = d_1 d_2 .. d_m``.

    The pivots ``d_j = x - alpha_j - beta_{j-1}^2 / d_{j-1}`` are positive right of the largest root.
    """
    one = torch.ones_like(x)
    inverse = (x - alphas[0]).reciprocal_()
    second = torch.zeros_like(x)
    log_slope = inverse
    slope, curvature = log_slope.clone(), log_slope.square()
    for alpha, square in zip(alphas[1:], squares, strict=True):
        q = square * inverse
        second = torch.addcmul(second * inverse, log_slope, log_slope, value=-2).mul_(q)
        first = torch.addcmul(one, q, log_slope)
        inverse = (x - alpha).sub_(q).reciprocal_()
        log_slope = first.mul_(inverse)
        slope.add_(log_slope)
        curvature.addcmul_(log_slope, log_slope).addcmul_(second, inverse, value=-1)
    return slope, curvature


def _ritz_residual(x: Tensor, alphas: list[Tensor], betas: list[Tensor]) -> Tensor:
    """A bound on the distance from ``x`` to an eigenvalue of ``J^T J``.

    The vector ``s`` that solves the first ``j - 1`` rows of ``(T - x) s = 0`` leaves a residual in rows
    ``j`` and ``j + 1`` alone; relative to ``||s||`` it is ``sqrt((d_j^2 + beta_j^2) / d_j')``, where
    ``d_j' = ||s||^2 / s_j^2``. Each ``j`` gives a valid bound. The smallest is taken: once a pair has
    converged at some ``j``, later pivots are rounding noise.
    """
    pivot, first = x - alphas[0], torch.ones_like(x)
    smallest = pivot.square() + betas[0].square()
    for alpha, beta, beta_next in zip(alphas[1:], betas[:-1], betas[1:], strict=True):
        coupling = beta / pivot
        first = torch.addcmul(torch.ones_like(x), coupling.square(), first)
        pivot = (x - alpha).sub_(coupling.mul_(beta))
        smallest = torch.fmin(smallest, (pivot.square() + beta_next.square()).div_(first))
    return smallest.sqrt_()
