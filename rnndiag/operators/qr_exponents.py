r"""Growth of an orthonormal frame under a product of operators, by repeated QR.

The frame advances by ``Q <- J_t Q`` for ``t = 1 .. T`` in forward order, with a factorization ``J_n .. J_m Q = Q' R``
from time to time. The logarithms of ``|diag R|`` add up to the finite-time Lyapunov exponents times the steps (Benettin
et al. 1980; Engelken, Wolf & Abbott 2023).

Between two factorizations the columns of ``Q`` collapse onto the fastest direction. The error of an image ``x_j`` is
about ``eps ||x_j||``, so the relative error of ``r_jj`` is ``eps ||x_j|| / r_jj`` (Higham 2002, 19.3). That ratio
controls the number of steps between factorizations: the growth of the ratio so far predicts how many steps are safe. If
the ratio grows too far within a run of steps, the run is discarded and repeated with fewer steps.

Slopes make rows of very different size. If the largest rows come first, the error of Householder's factorization is
rounding relative to each row, not relative to the whole matrix (Cox & Higham 1998), and the last entries of a
saturated net's ``R`` keep their digits.

That holds while the largest part of column ``j`` is in the ``j``-th row or near it. Suppose that a column is small, and
that the columns before it have taken all of its part in a large row. The factorization then mixes that row into smaller
rows, and their rounding errors become those of the large row. If ``r_jj`` is not well above such rounding, the step is
repeated by elimination (``graded``), which keeps rows apart. A column without a pivot in the elimination lies within
the span of the columns before it: the step has annihilated the column, and its growth is ``-inf`` from then on,
whatever direction replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.chain import Chain
from rnndiag.operators.graded import graded_step
from rnndiag.operators.row_scaled import unit_scaled
from rnndiag.operators.wide import LN_2

RELATIVE_ERROR = 1e-8
"""Largest relative error allowed in a diagonal entry of ``R``."""

LONGEST_RUN = 32
"""Steps without a factorisation: bounds what an overflow could cost."""

MOST_RUNS = 16
"""Runs between two looks at what they have lost. A look waits for a GPU to finish; between them its work queues up."""

KEPT_BYTES = 64 << 20
"""Of the frames between two looks, to which a run that lost too much goes back."""


def frame_growth(
    operator: BatchedOperator | Chain[BatchedOperator], count: int, bounds: Sequence[int], *, generator: torch.Generator
) -> Tensor:
    """Log growth of each of ``count`` directions within each block of steps.

    Args:
        operator: batch ``[T, B]`` of square maps, or a chain of them.
        count: columns ``k`` of the frame, at most the size of the maps.
        bounds: ascending steps ``0 = b_0 < b_1 < .. < b_n <= T``; block ``i`` is steps ``b_i .. b_{i+1}``.
        generator: draws the first frame (on the CPU).

    Returns:
        ``[n, B, k]``: sums of ``log |diag R|`` in nats; ``-inf`` where a direction is annihilated.
    """
    chain = operator if isinstance(operator, Chain) else Chain.of(operator)
    like = chain.first.reference
    size, batch = chain.shape[1], chain.batch[1]
    first = torch.randn(batch, size, count, dtype=torch.float64, generator=generator)
    vectors = torch.linalg.qr(first).Q.mT.contiguous().to(like)
    frame = _Frame(vectors)
    dead: Tensor | None = None  # columns that a step has annihilated; only an elimination detects this
    widest = math.log(max(RELATIVE_ERROR / torch.finfo(like.dtype).eps, 2.0))
    growth = like.new_zeros(len(bounds) - 1, batch, count)
    most = min(MOST_RUNS, max(1, KEPT_BYTES // (vectors.numel() * vectors.element_size())))
    run = runs = 1
    for block, (step, end) in enumerate(pairwise(bounds)):
        while step < end:
            taken = [min(run, end - start) for start in range(step, end, run)[:runs]]
            frames, logs, losses = _advance(chain, frame, step, taken, dead)
            # A whole run of steps may underflow where no single one does: then, too, with fewer.
            wrong = [not loss < (widest if n > 1 else math.inf) for n, loss in zip(taken, losses, strict=True)]
            right = wrong.index(True) if any(wrong) else len(taken)
            if right:
                frame, step = frames[right - 1], step + sum(taken[:right])
                growth[block] += _without_dead(logs[:right].sum(0), dead)
            if right < len(taken) and taken[right] == 1:
                frame, grown = _eliminated(chain, frame, step, frames[right], logs[right], dead)
                growth[block] += _without_dead(grown, dead)
                dead = growth.sum(0).isneginf()
                step, run, runs = step + 1, 1, 1
                continue
            if right < len(taken):
                run, runs = max(1, min(taken[right] // 2, _promised(taken[right], losses[right], widest))), 1
                continue
            promised = min(_promised(n, loss, widest) for n, loss in zip(taken, losses, strict=True))
            longer = min(2 * run, promised, LONGEST_RUN)
            run, runs = longer, (min(2 * runs, most) if longer < 2 * run else 1)
    return growth


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Vectors as rows ``[B, k, n]``, and ``log r_jj`` of their own factorization; None: they are orthonormal."""

    vectors: Tensor
    log_volume: Tensor | None = None


def _without_dead(grown: Tensor, dead: Tensor | None) -> Tensor:
    """Growth with ``-inf`` for dead columns, whatever the directions that replace these columns do."""
    return grown if dead is None else grown.masked_fill(dead, -torch.inf)


def _promised(run: int, loss: float, widest: float) -> int:
    """Steps that are likely to stay under ``widest``, from what a run of steps has lost."""
    return max(1, int(0.9 * widest * run / max(loss, 1e-3))) if loss < math.inf else 1


def _advance(
    chain: Chain[BatchedOperator], frame: _Frame, step: int, runs: Sequence[int], dead: Tensor | None
) -> tuple[list[_Frame], Tensor, list[float]]:
    """Some runs of steps, with a factorization after each; loss of digits in ``dead`` columns does not count.

    Returns:
        The frame after each run; ``log |diag R|`` of each ``[runs, B, k]``; and the largest ``log ||x_j|| / r_jj`` of
        each run. Reading these waits for the device.
    """
    frames, logs, losses = [], [], []
    for run in runs:
        frame, grown, loss = _factored(chain, frame, step, run)
        step += run
        frames.append(frame)
        logs.append(grown)
        losses.append((loss if dead is None else loss.masked_fill(dead, 0.0)).amax())
    asked: list[float] = torch.stack(losses).tolist()
    return frames, torch.stack(logs), asked


def _factored(chain: Chain[BatchedOperator], frame: _Frame, step: int, run: int) -> tuple[_Frame, Tensor, Tensor]:
    """The frame after a run, ``log |diag R|`` and ``log ||x_j|| / r_jj``, infinite where digits cannot be trusted."""
    image, power = frame.vectors, None
    for t in range(step, step + run):
        operator, exponent = unit_scaled(chain[t])
        image = operator.mv(image)
        if exponent is not None:
            power = exponent if power is None else power + exponent
    rows, order = image.abs().amax(1).sort(descending=True)
    order = order[:, None].expand_as(image)
    factor = torch.linalg.qr(image.gather(-1, order).mT)
    growth = factor.R.diagonal(dim1=-2, dim2=-1).abs()
    largest = image.abs().amax(-1)
    length = torch.maximum(torch.linalg.vector_norm(image, dim=-1), largest)  # the squares of a norm can underflow
    eps = torch.finfo(image.dtype).eps
    reach = own = rows[:, : image.shape[1]]
    if run == 1:  # a longer run is kept only if it has lost few digits
        # The factorization mixes a row that no column has eliminated into the rows after it.
        left = torch.where(growth < math.sqrt(eps) * own, own, 0.0).cummax(-1).values
        reach = torch.cat((own[:, :1], torch.maximum(own[:, 1:], left[:, :-1])), -1)
    logs = torch.where(growth > 4 * image.shape[-1] * eps * reach, growth, 0.0).log()
    loss = (length.log() - logs).nan_to_num(nan=torch.inf, posinf=torch.inf)
    if run > 1:  # columns that shrink close to subnormal numbers have lost digits
        loss = loss.masked_fill(largest < torch.finfo(image.dtype).tiny / eps, torch.inf)
    vectors = torch.empty_like(image).scatter_(-1, order, factor.Q.mT)
    if frame.log_volume is not None:
        logs = logs - frame.log_volume
    if power is not None:
        logs = logs + power * LN_2
    return _Frame(vectors), logs, loss


def _eliminated(
    chain: Chain[BatchedOperator], frame: _Frame, step: int, factored: _Frame, logs: Tensor, dead: Tensor | None
) -> tuple[_Frame, Tensor]:
    """One step by elimination, in the sequences whose factorization cannot be trusted; the others do not change."""
    doubtful = logs.isneginf() | logs.isnan()
    doubtful = doubtful if dead is None else doubtful & ~dead
    which = doubtful.any(-1).nonzero().flatten()
    grown, lower, volume = graded_step(chain[step][which], frame.vectors[which])
    vectors = factored.vectors.index_copy(0, which, lower)
    log_volume = torch.zeros_like(logs).index_copy(0, which, volume)
    before = torch.zeros_like(volume) if frame.log_volume is None else frame.log_volume[which]
    return _Frame(vectors, log_volume), logs.index_copy(0, which, grown + volume - before)
