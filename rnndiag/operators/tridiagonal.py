"""The largest eigenvalue of the tridiagonal matrices that Lanczos leaves behind, its error and its eigenvector.

``T`` has the diagonal ``alpha_1 .. alpha_m`` and ``beta_1 .. beta_{m-1}`` beside it; ``beta_m`` is what the recurrence
ended on. Every entry of the lists is a tensor with one number for each matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 1e-10
"""Relative distance from the eigenvalue at which its eigenvector is sought."""


def looked_at(entries: list[Tensor]) -> tuple[Tensor, ...]:
    """Entries where they are looked at: in double precision on the processor.

    In single precision the recurrences below never get under their own rounding; and their many short operations
    would be as many launches on another device, which must be waited for here in any case.
    """
    return torch.stack(entries).to("cpu", torch.float64).unbind()


def largest_ritz(alphas: list[Tensor], betas: list[Tensor], above: Tensor | None = None) -> Tensor:
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
    x = gershgorin
    if above is not None:
        x = torch.fmin(gershgorin, above)
        x = torch.where(_right_of_all(x, alphas, squares), x, gershgorin)
    x = x * (1 + 8 * eps)
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


def ritz_residual(x: Tensor, alphas: list[Tensor], betas: list[Tensor]) -> Tensor:
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


def ritz_vector(theta: Tensor, alphas: list[Tensor], betas: list[Tensor]) -> list[Tensor]:
    """The unit eigenvector of the largest eigenvalue, entry by entry.

    One step of inverse iteration from just right of ``theta``, where all pivots are positive: with a right-hand side
    of ones nothing is ever subtracted.
    """
    x = theta * (1 + SHIFT)
    pivots, sums = [x - alphas[0]], [torch.ones_like(x)]
    for alpha, beta in zip(alphas[1:], betas[:-1], strict=True):
        ratio = beta / pivots[-1]
        sums.append(torch.addcmul(torch.ones_like(x), ratio, sums[-1]))
        pivots.append(torch.addcmul(x - alpha, ratio, beta, value=-1))
    entries = [sums[-1] / pivots[-1]]
    for total, beta, pivot in zip(sums[-2::-1], betas[-2::-1], pivots[-2::-1], strict=True):
        entries.insert(0, torch.addcmul(total, beta, entries[0]) / pivot)
    length = torch.linalg.vector_norm(torch.stack(entries), dim=0)
    return [entry / length for entry in entries]
