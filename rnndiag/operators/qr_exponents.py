r"""Growth of an orthonormal frame under a product of operators, by repeated QR.

``Q <- J_t Q`` for ``t = 1 .. T`` in forward order, with a factorisation ``J_n .. J_m Q = Q' R`` from time
to time: the logarithms of ``|diag R|`` add up to the finite-time Lyapunov exponents times the steps
(Benettin et al. 1980; Engelken, Wolf & Abbott 2023).

Between two factorisations the columns of ``Q`` collapse onto the fastest direction and the last diagonal
entry is known to ``eps * max|r| / min|r|`` only. The number of steps between factorisations is therefore
controlled by that ratio: a run of steps that lets it grow too far is thrown away and repeated in halves.

A column that a single step leaves within the span of those before it, to rounding, has been annihilated: its
growth is ``-inf`` from then on, whatever direction the factorisation invents for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator

RELATIVE_ERROR = 1e-8
"""Largest relative error allowed in a diagonal entry of ``R``."""

LONGEST_RUN = 32
"""Steps without a factorisation: bounds what an overflow could cost."""


def frame_growth(operator: BatchedOperator, count: int, bounds: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """Log growth of each of ``count`` directions within each block of steps.

    Args:
        operator: batch ``[T, B]`` of square maps.
        count: columns ``k`` of the frame, at most the size of the maps.
        bounds: ascending steps ``0 = b_0 < b_1 < .. < b_n <= T``; block ``i`` is steps ``b_i .. b_{i+1}``.
        generator: draws the first frame (on the CPU).

    Returns:
        ``[n, B, k]``: sums of ``log |diag R|`` in nats; ``-inf`` where a direction is annihilated.
    """
    like = operator.reference
    size, batch = operator.shape[1], operator.batch[1]
    first = torch.randn(batch, size, count, dtype=torch.float64, generator=generator)
    frame = torch.linalg.qr(first).Q.to(like)
    widest = math.log(max(RELATIVE_ERROR / torch.finfo(like.dtype).eps, 2.0))
    growth = like.new_zeros(len(bounds) - 1, batch, count)
    run = 1
    for block, (step, end) in enumerate(pairwise(bounds)):
        while step < end:
            run = min(run, end - step)
            image, logs = _advance(operator, frame, step, run)
            # A whole run of steps may underflow where no single one does: then, too, in halves.
            spread = float((logs.amax(-1) - logs.amin(-1)).nan_to_num(nan=torch.inf, posinf=torch.inf).amax())
            if run > 1 and not spread < widest:
                run //= 2
                continue
            frame, step = image, step + run
            growth[block] += logs
            if spread < 0.4 * widest:
                run = min(2 * run, LONGEST_RUN)
    return growth


def _advance(operator: BatchedOperator, frame: Tensor, step: int, run: int) -> tuple[Tensor, Tensor]:
    columns = frame.permute(2, 0, 1)
    for t in range(step, step + run):
        columns = operator[t].mv(columns)
    image = columns.permute(1, 2, 0)
    factor = torch.linalg.qr(image)
    growth = factor.R.diagonal(dim1=-2, dim2=-1).abs()
    rounding = 4 * image.shape[1] * torch.finfo(image.dtype).eps * torch.linalg.vector_norm(image, dim=1)
    return factor.Q, torch.where(growth > rounding, growth, torch.zeros_like(growth)).log()
