r"""Growth of a frame in one step whose rows differ too much in size for an orthogonal factorization.

``X = J Q`` is eliminated column by column, ``X = L U``, with the largest entry of each column as its pivot. Then
``|L| <= 1``, the first ``j`` columns of ``L`` span what those of ``X`` span, and the volumes follow from

    r_jj(X) = |u_jj| r_jj(L),      X = Q_X R_X,  L = Q_L R_L.

Gaussian elimination commutes with a scaling of the rows: in row ``i`` it computes ``x_ij - (x_il / x_pl) x_pj``, where
the scale of row ``i`` is a factor of both terms and the scale of the pivot's row cancels. Each row therefore keeps its
own exponent, which matters only for the choice of the pivots and for ``u_jj``. The error of each row is rounding
relative to that row, however small the row is. The quotient ``x_il / x_pl`` can leave the range even without the scales
of the rows, so each entry has an exponent, too.
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
from rnndiag.operators.row_scaled import DEEPEST, RowScaled, with_absolute_values
from rnndiag.operators.structured import StepJacobian
from rnndiag.operators.wide import LN_2, Wide


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
    logs, lower = _eliminated(Wide.of(image), Wide.of(error), exponent)
    diagonal = torch.linalg.qr(lower.mT).R.diagonal(dim1=-2, dim2=-1).abs()
    volume = torch.where(logs.isneginf(), 1.0, diagonal).log()
    return logs, lower, volume


def _eliminated(image: Wide, error: Wide, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """``log |u_jj|`` and ``L`` of rows ``image * 2^exponent`` whose errors are at most ``error * 2^exponent``.

    The entries of one row have exponents, too: they can differ so much that their quotients leave the range.
    """
    logs, lower = torch.empty_like(image.value[..., 0]), torch.zeros_like(image.value)
    free = torch.ones_like(exponent, dtype=torch.bool)
    for j in range(lower.shape[1]):
        column, unsure, image, error = image[:, 0], error[:, 0], image[:, 1:], error[:, 1:]
        known = free & (column.log2() > unsure.log2())
        entries = Wide.of(torch.where(known, column.value, 0.0), column.exponent)
        size, place = entries.times_power(exponent).log2().max(-1, keepdim=True)
        logs[:, j] = size[:, 0] * LN_2
        found = size.isfinite()
        own = _gathered(column, place)
        own = Wide(torch.where(found, own.value, 1.0), torch.where(found, own.exponent, 0.0))
        multiplier = _divided(entries, own)
        below = multiplier.times_power(exponent - exponent.gather(-1, place))
        lower[:, j] = _without_smallest(below.over(torch.zeros_like(exponent)))
        free = free.scatter(-1, place, free.gather(-1, place) & ~found)
        multiplier = Wide.of(torch.where(free, multiplier.value, 0.0), multiplier.exponent)
        off = _divided(unsure + multiplier.abs() * _gathered(unsure, place), own.abs())
        off = Wide.of(torch.where(free & found, off.value, 0.0), off.exponent)
        at = place[:, None].expand_as(image.value)
        row, row_error = _gathered(image, at), _gathered(error, at)
        image = image + Wide(-multiplier.value, multiplier.exponent)[:, None] * row
        error = error + multiplier.abs()[:, None] * row_error + off[:, None] * row.abs()
    return logs, lower


def _gathered(numbers: Wide, place: Tensor) -> Wide:
    return Wide(numbers.value.gather(-1, place), numbers.exponent.gather(-1, place))


def _divided(numbers: Wide, divisor: Wide) -> Wide:
    return Wide.of(numbers.value / divisor.value, numbers.exponent - divisor.exponent)


def _without_smallest(lower: Tensor) -> Tensor:
    """``L`` with zeros instead of entries that would lose digits in a product with the next Jacobian.

    ``L`` stays unit triangular, so its determinant does not change.
    """
    return torch.where(lower.abs() < 2.0 ** -DEEPEST[lower.dtype], 0.0, lower)
