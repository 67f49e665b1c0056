"""Frobenius norms of a batch of operators from random vectors, where unit vectors would be too many."""

from __future__ import annotations

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator


def frobenius_squared(operator: BatchedOperator, *, vectors: int, generator: torch.Generator) -> Tensor:
    """``||J||_F^2`` of each map as the mean of ``||J v||^2`` over random signs ``v`` (Hutchinson 1990).

    Unbiased; the relative standard deviation is at most ``sqrt(2 / vectors)``, which a map of rank one has, and falls
    with the root of the effective rank. The maps share the vectors.

    Args:
        operator: maps with any batch axes.
        vectors: how many.
        generator: draws them (on the CPU).

    Returns:
        ``[*batch]``.
    """
    like, size = operator.reference, operator.shape[1]
    total = like.new_zeros(operator.batch)
    for _ in range(vectors):
        signs = torch.randint(2, (size,), generator=generator).mul_(2).sub_(1).to(like)
        total += operator.mv(signs.expand(*operator.batch, size)).square().sum(-1)
    return total / vectors
