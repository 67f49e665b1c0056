r"""Growth of a frame in one step whose rows differ too much in size for an orthogonal factorization.

``X = J Q`` is eliminated column by column, ``X = L U``, with the largest entry of each column as its pivot. Then
``|L| <= 1``, the first ``j`` columns of ``L`` span what those of ``X`` span, and the volumes follow from

    r_jj(X) = |u_jj| r_jj(L),      X = Q_X R_X,  L = Q_L R_L.

Gaussian elimination commutes with a scaling of the rows: in row ``i`` it computes ``x_ij - (x_il / x_pl) x_pj``, where
the scale of row ``i`` is a factor of both terms and the scale of the pivot's row cancels. Each row therefore keeps its
own exponent, which matters only for the choice of the pivots and for ``u_jj``. The error of each row is rounding
relative to that row, however small the row is.
Householder's factorization mixes rows. With rows in order of size it is accurate only if the columns follow that order
too (Cox & Higham 1998), which is not the case for units that are not connected to each other.

The next step starts from ``L`` instead of ``Q_L``, because small entries of ``L`` keep their digits. The errors in an
orthogonal factor are relative to its largest entry, and a unit that is far behind can overtake later.

An entry counts as zero if it is below the bound on its error, which is computed along with it (running error analysis,
Higham 2002, 3.3). A column without a pivot has been annihilated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.row_scaled import RowScaled, with_absolute_values
from rnndiag.operators.structured import StepJacobian
from rnndiag.operators.wide import LN_2, Wide, binary_exponent, times_power_of_two

LARGEST = 256
"""A row with entries above ``2^LARGEST`` is scaled back to entries of about 1."""


def graded_step(operator: BatchedOperator, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of a frame.

    Args:
        operator: batch ``[b, 1]`` of square maps.
        frame: vectors as rows, ``[b, k, n]``.

    Returns:
        ``log |u_jj|`` ``[b, k]``, ``-inf`` where a column is annihilated; the columns of ``L`` as rows, ``[b, k, n]``;
        and ``log r_jj(L)`` ``[b, k]``, 0 for an annihilated column.
    """
    eps = 4 * frame.shape[-1] * torch.finfo(frame.dtype).eps
    inner = operator.inner if isinstance(operator, RowScaled) else operator
    image = inner.mv(frame)
    if isinstance(inner, StepJacobian):
        error = eps * with_absolute_values(inner).mv(frame.abs())
    else:
        error = eps * image.abs().amax(1, keepdim=True).expand_as(image)
    exponent = operator.exponent[:, 0] if isinstance(operator, RowScaled) else torch.zeros_like(image[:, 0])
    logs, lower = _eliminated(image, error, exponent)
    diagonal = torch.linalg.qr(lower.mT).R.diagonal(dim1=-2, dim2=-1).abs()
    volume = torch.where(logs.isneginf(), 1.0, diagonal).log()
    return logs, lower, volume


def _eliminated(image: Tensor, error: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """``log |u_jj|`` and ``L`` of rows ``image * 2^exponent`` whose errors are at most ``error * 2^exponent``."""
    logs, lower = torch.empty_like(image[..., 0]), torch.zeros_like(image)
    free = torch.ones_like(exponent, dtype=torch.bool)
    for j in range(image.shape[1]):
        column, unsure = image[:, j], error[:, j]
        known = free & (column.abs() > unsure)
        entries = Wide.of(torch.where(known, column, 0.0), exponent)
        size, place = entries.log2().max(-1, keepdim=True)
        logs[:, j] = size[:, 0] * LN_2
        pivot = Wide(entries.value.gather(-1, place), entries.exponent.gather(-1, place))
        found = pivot.value != 0
        quotient = Wide.of(entries.value / torch.where(found, pivot.value, 1.0), entries.exponent)
        lower[:, j] = quotient.over(pivot.exponent)
        free = free.scatter(-1, place, free.gather(-1, place) & ~found)
        own = torch.where(found, column.gather(-1, place), 1.0)
        multiplier = torch.where(known & free, column / own, 0.0)
        at = place[:, None].expand(-1, image.shape[1] - j - 1, -1)
        row, row_error = image[:, j + 1 :].gather(-1, at), error[:, j + 1 :].gather(-1, at)
        off = torch.where(free & found, (unsure + multiplier.abs() * unsure.gather(-1, place)) / own.abs(), 0.0)
        image = torch.cat((image[:, : j + 1], image[:, j + 1 :] - multiplier[:, None] * row), 1)
        grown = error[:, j + 1 :] + multiplier.abs()[:, None] * row_error + off[:, None] * row.abs()
        error = torch.cat((error[:, : j + 1], grown), 1)
        image, error, exponent = _brought_back(image, error, exponent)
    return logs, lower


def _brought_back(image: Tensor, error: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same numbers, in which rows that have grown large have larger exponents instead."""
    power = binary_exponent(image.abs().amax(1))
    power = torch.where(power > LARGEST, power, 0.0)
    down = -power[:, None]
    return times_power_of_two(image, down), times_power_of_two(error, down), exponent + power
