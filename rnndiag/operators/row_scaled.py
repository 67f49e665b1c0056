r"""Operators whose rows are too large, too small or too different for their dtype: ``J = diag(2^e) J'``.

Each row of a step Jacobian contains the slope of a unit, so deep saturation makes a whole row tiny, and the rows of two
units may differ by any factor. Each row of ``J'`` has entries of about 1; the integer exponents ``e`` are kept apart.
The rows of the shared weight are brought to 1 as well, by powers of two that move into the diagonals. Scaling by powers
of two is exact, and all later steps work on numbers of about 1:

- norms: with ``m = max e``, ``J = 2^m (diag(2^(e-m)) J')``; rows that become zero in the brackets do not matter for a
  norm;
- ``J^T u = J'^T (2^e u)``, where the vector in brackets is scaled to 1 again, and its power of two is returned with it;
- exponents: rows keep their own powers of two (``graded``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.normed import NormedJacobian, NormedReadout, NormedShared
from rnndiag.operators.reset_first import ResetFirst
from rnndiag.operators.structured import CarryReadout, DiagonalPlusShared, StepJacobian
from rnndiag.operators.two_sided import DiagonalPlusTwoSided
from rnndiag.operators.wide import Wide, binary_exponent, brought_to_one, concatenated, times_power_of_two

DEEPEST = {torch.float64: 900.0, torch.float32: 90.0}
"""Powers of two between the largest row and a row that still counts for norms."""


@dataclass(frozen=True, slots=True, eq=False)
class RowScaled(BatchedOperator):
    """``diag(2^exponent) inner``."""

    inner: StepJacobian
    """``J'``: entries of about 1 in each row"""
    exponent: Tensor
    """``e``: integers in the dtype of the maps, ``[*batch, m]``"""
    gain_value: Tensor
    """The diagonals at the preactivations, as they are without any scaling, are ``gain_value * 2^gain_exponent``:
    ``[*batch, K*h]``"""
    gain_exponent: Tensor
    readout_value: Tensor | None = None
    """The LSTM's readout in the same form: ``[*batch, h]``"""
    readout_exponent: Tensor | None = None
    shared_exponent: Tensor | None = None
    """The powers of two that were taken out of the LSTM's projection, ``[1]``, of the rows of ``W_hn``, ``[h]``, or of
    the matrix before a norm, ``[1]``"""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("exponent", "gain_value", "gain_exponent", "readout_value", "readout_exponent")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ()

    @property
    def shape(self) -> tuple[int, int]:
        return self.inner.shape

    def __getitem__(self, index: Any) -> Self:
        named = {name: getattr(self, name)[index] for name in self._present()}
        return replace(self, inner=self.inner[index], **named)

    def unbind(self) -> list[Self]:
        names = self._present()
        each = zip(self.inner.unbind(), *(getattr(self, name).unbind() for name in names), strict=True)
        return [replace(self, inner=inner, **dict(zip(names, rest, strict=True))) for inner, *rest in each]

    def flatten(self) -> Self:
        flat = {name: getattr(self, name) for name in self._present()}
        flat = {name: tensor.reshape(-1, tensor.shape[-1]) for name, tensor in flat.items()}
        return replace(self, inner=self.inner.flatten(), **flat)

    def scaled(self, factor: Tensor) -> Self:
        mantissa, power = torch.frexp(factor)
        moved = self.exponent + power.to(self.exponent.dtype)[..., None]
        return replace(self, inner=self.inner.scaled(mantissa), exponent=moved)

    def mv(self, v: Tensor) -> Tensor:
        return times_power_of_two(self.inner.mv(v), self.exponent)

    def rmv(self, u: Tensor) -> Tensor:
        image, power = self.pulled_back(u)
        return times_power_of_two(image, power[..., None])

    def frobenius_squared(self) -> Tensor:
        unit, power = self.unit()
        return times_power_of_two(unit.frobenius_squared(), 2 * power)

    def unit(self) -> tuple[StepJacobian, Tensor]:
        """A plain operator of size about 1, and the power of two that it is to be multiplied by, ``[*batch]``.

        Rows that are too small to keep all their digits become zero.
        """
        top = self.exponent.amax(-1)
        below = self.exponent - top[..., None]
        return self.inner.with_rows_times(torch.where(below < -DEEPEST[below.dtype], -torch.inf, below)), top

    def pulled_back(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """``J^T u`` as vectors and the power of two that each is to be multiplied by."""
        weighted, power = brought_to_one(Wide.of(u, self.exponent))
        return self.inner.rmv(weighted), power

    def scattered(self, u: Tensor) -> Wide:
        """``scatter(u)`` of the original operator: what reaches the preactivations, whatever their weights are."""
        gain, arrived = Wide(self.gain_value, self.gain_exponent), Wide.of(u)
        if isinstance(self.inner, NormedJacobian):
            assert self.shared_exponent is not None  # the power of two that was taken out of the matrix
            weighted, power = brought_to_one(Wide.of(u, self.exponent))
            return Wide.of(self.inner.scatter(weighted), power[..., None] - self.shared_exponent)
        if isinstance(self.inner, CarryReadout):
            return concatenated(self._through_readout(u, self.inner)) * gain
        if isinstance(self.inner, ResetFirst):
            hidden = u.shape[-1]
            assert self.shared_exponent is not None  # W_hn has one
            at_n = arrived * gain[..., 2 * hidden :]
            weighted, power = brought_to_one(at_n.times_power(self.shared_exponent))
            behind = Wide.of(weighted @ self.inner.inner, power[..., None])
            return concatenated([behind * gain[..., :hidden], arrived * gain[..., hidden : 2 * hidden], at_n])
        return concatenated([arrived] * (gain.value.shape[-1] // u.shape[-1])) * gain

    def _through_readout(self, u: Tensor, inner: CarryReadout) -> list[Wide]:
        assert self.readout_value is not None  # the operator is an LSTM's
        assert self.readout_exponent is not None
        outgoing = inner.shape[0] - inner.readout.shape[-1]
        at_output, at_cell = Wide.of(u[..., :outgoing]), Wide.of(u[..., outgoing:])
        if inner.projection is not None and self.shared_exponent is not None:
            at_output = Wide.of(u[..., :outgoing] @ inner.projection, self.shared_exponent)
        at_cell = at_cell + at_output * Wide(self.readout_value, self.readout_exponent)
        return [at_cell, at_cell, at_cell, at_output]


def unit_scaled(operator: BatchedOperator) -> tuple[BatchedOperator, Tensor | None]:
    """An operator whose squares stay in the range, and the power of two per map; None: it is the operator itself."""
    return operator.unit() if isinstance(operator, RowScaled) else (operator, None)


def with_absolute_values(operator: BatchedOperator) -> BatchedOperator:
    """An operator that bounds ``|J| |v|`` entry by entry: its factors are the absolute values."""
    if isinstance(operator, NormedJacobian):
        return operator.absolute
    named = {field.name: getattr(operator, field.name) for field in fields(operator)}
    return replace(operator, **{name: t.abs() for name, t in named.items() if isinstance(t, Tensor)})


def diagonal_plus_shared(gain: Wide, weight: Tensor, carry: Wide | None = None, blocks: int = 1) -> RowScaled:
    """``DiagonalPlusShared(gain, weight, carry, blocks)`` for diagonals and weights of any size."""
    weight, rows = _with_rows_of_one(weight)
    own = gain.times_power(rows)
    parts = own.exponent.unflatten(-1, (blocks, -1)).amax(-2)
    exponent = _shared(parts if carry is None else torch.maximum(parts, carry.exponent))
    kept = None if carry is None else carry.over(exponent)
    inner = DiagonalPlusShared(own.over(_repeated(exponent, blocks)), weight, kept, blocks)
    return RowScaled(inner, exponent, gain.value, gain.exponent)


def diagonal_plus_two_sided(gain: Wide, weight: Tensor, slope: Wide, carry: Wide) -> RowScaled:
    """``DiagonalPlusTwoSided(gain, weight, slope, carry)`` for diagonals and weights of any size.

    The slopes are summed over units, so they have one exponent per map.
    """
    weight, rows = _with_rows_of_one(weight)
    between = _finite(slope.exponent.amax(-1, keepdim=True))
    own = gain.times_power(rows).times_power(between)
    exponent = _shared(torch.maximum(own.exponent, carry.exponent))
    inner = DiagonalPlusTwoSided(own.over(exponent), weight, slope.over(between), carry.over(exponent))
    return RowScaled(inner, exponent, gain.value, gain.exponent)


def carry_readout(
    gain: Wide, readout: Wide, weight: Tensor, forget: Wide | None = None, projection: Tensor | None = None
) -> RowScaled:
    """``CarryReadout(gain, readout, weight, forget, projection)`` for diagonals and weights of any size.

    A projection mixes the rows of ``dh``, which therefore share one exponent per map.
    """
    weight, rows = _with_rows_of_one(weight)
    own = gain.times_power(rows)
    hidden = readout.value.shape[-1]
    to_cell, to_output = own[..., : 3 * hidden], own[..., 3 * hidden :]
    parts = to_cell.exponent.unflatten(-1, (3, -1)).amax(-2)
    cell = _shared(parts if forget is None else torch.maximum(parts, forget.exponent))
    output = _shared(torch.maximum(to_output.exponent, readout.exponent + cell))
    at_output, size = output, None
    if projection is not None:
        size = _finite(binary_exponent(projection.abs().amax()))[None]
        projection = times_power_of_two(projection, -size)
        output = output.amax(-1, keepdim=True).expand_as(output)
        at_output = output[..., :1].expand(*output.shape[:-1], len(projection)) + size
    inner = CarryReadout(
        torch.cat((to_cell.over(_repeated(cell, 3)), to_output.over(output)), -1),
        Wide(readout.value, readout.exponent + cell).over(output),
        weight,
        None if forget is None else forget.over(cell),
        projection,
    )
    exponent = torch.cat((at_output, cell), -1)
    return RowScaled(inner, exponent, gain.value, gain.exponent, readout.value, readout.exponent, size)


def reset_first(
    gain: Wide,
    reset_gain: Wide,
    weight: Tensor,
    candidate: Tensor,
    reset: Wide | None = None,
    carry: Wide | None = None,
) -> RowScaled:
    """``ResetFirst(gain, reset_gain, weight, candidate, reset, carry)`` for diagonals and weights of any size.

    The factor between ``W_hn`` and the state is summed over units, so it has one exponent per map.
    """
    hidden = len(candidate)
    rows, behind = _row_exponents(weight), _row_exponents(candidate)
    if carry is None:  # the input's map adds rows of both matrices
        rows = torch.cat((rows[: 2 * hidden], torch.maximum(rows[2 * hidden :], behind)))
        behind = rows[2 * hidden :]
    weight = times_power_of_two(weight, -_finite(rows)[:, None])
    candidate = times_power_of_two(candidate, -_finite(behind)[:, None])
    to_reset = reset_gain.times_power(rows[:hidden])
    between = torch.zeros_like(reset_gain.value[..., :1])
    if reset is not None:
        between = _finite(torch.maximum(reset.exponent, to_reset.exponent).amax(-1, keepdim=True))
    b_z = gain[..., :hidden].times_power(rows[hidden : 2 * hidden])
    b_n = gain[..., hidden:].times_power(behind + between)
    parts = torch.maximum(b_z.exponent, b_n.exponent)
    exponent = _shared(parts if carry is None else torch.maximum(parts, carry.exponent))
    inner = ResetFirst(
        concatenated([b_z, b_n]).over(_repeated(exponent, 2)),
        to_reset.over(between),
        weight,
        candidate,
        None if reset is None else reset.over(between),
        None if carry is None else carry.over(exponent),
    )
    at_preactivations = concatenated([reset_gain, gain])
    return RowScaled(
        inner,
        exponent,
        at_preactivations.value,
        at_preactivations.exponent,
        shared_exponent=_finite(behind),
    )


def normed_shared(
    gain: Wide, weight: Tensor, direction: Tensor, groups: int, carry: Wide | None = None, blocks: int = 3
) -> RowScaled:
    """``NormedShared(gain, weight, direction, groups, carry, blocks)`` for diagonals and weights of any size.

    The norm mixes the rows of the matrix, which therefore share one exponent.
    """
    size = _finite(binary_exponent(weight.abs().amax()))[None]
    own = gain.times_power(size)
    parts = own.exponent.unflatten(-1, (blocks, -1)).amax(-2)
    exponent = _shared(parts if carry is None else torch.maximum(parts, carry.exponent))
    inner = NormedShared(
        gain=own.over(_repeated(exponent, blocks)),
        weight=times_power_of_two(weight, -size),
        direction=direction,
        groups=groups,
        carry=None if carry is None else carry.over(exponent),
        blocks=blocks,
    )
    return RowScaled(inner, exponent, gain.value, gain.exponent, shared_exponent=size)


def normed_readout(
    gain: Wide,
    readout: Wide,
    weight: Tensor,
    forget: Wide | None,
    projection: Tensor | None,
    *,
    direction: Tensor | None,
    groups: int,
    cell_direction: Tensor | None,
    cell_scale: Tensor | None,
    feeds_back: bool,
) -> RowScaled:
    """``NormedReadout`` for diagonals and weights of any size.

    A norm of the cell state mixes the rows of the map to ``c``, which therefore share one exponent per map.
    """
    size = _finite(binary_exponent(weight.abs().amax()))[None]
    own = gain.times_power(size)
    hidden = readout.value.shape[-1]
    to_cell, to_output = own[..., : 3 * hidden], own[..., 3 * hidden :]
    parts = to_cell.exponent.unflatten(-1, (3, -1)).amax(-2)
    cell = _shared(parts if forget is None else torch.maximum(parts, forget.exponent))
    if cell_direction is not None:
        cell = cell.amax(-1, keepdim=True).expand_as(cell)
    output = _shared(torch.maximum(to_output.exponent, readout.exponent + cell))
    at_output, at_cell, scale = output, cell, cell_scale
    if cell_scale is not None:
        sizes = Wide.of(cell_scale)
        at_cell = _shared(sizes.exponent + cell)
        scale = Wide(sizes.value, sizes.exponent + cell).over(at_cell)
    if projection is not None:
        factor = _finite(binary_exponent(projection.abs().amax()))[None]
        projection = times_power_of_two(projection, -factor)
        output = output.amax(-1, keepdim=True).expand_as(output)
        at_output = output[..., :1].expand(*output.shape[:-1], len(projection)) + factor
    inner = NormedReadout(
        gain=torch.cat((to_cell.over(_repeated(cell, 3)), to_output.over(output)), -1),
        weight=times_power_of_two(weight, -size),
        direction=direction,
        groups=groups,
        readout=Wide(readout.value, readout.exponent + cell).over(output),
        forget=None if forget is None else forget.over(cell),
        projection=projection,
        cell_direction=cell_direction,
        cell_scale=scale,
        feeds_back=feeds_back,
    )
    exponent = torch.cat((at_output, at_cell), -1)
    return RowScaled(inner, exponent, gain.value, gain.exponent, shared_exponent=size)


def _with_rows_of_one(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight with the largest entry of each row about 1, and the powers of two that were taken out.

    The power of a row of zeros is ``-inf``, so that its diagonal does not influence any size.
    """
    rows = _row_exponents(weight)
    return times_power_of_two(weight, -_finite(rows)[:, None]), rows


def _row_exponents(weight: Tensor) -> Tensor:
    return binary_exponent(weight.abs().amax(-1))


def _finite(exponent: Tensor) -> Tensor:
    return torch.where(exponent.isfinite(), exponent, 0.0)


def _shared(exponent: Tensor) -> Tensor:
    """Exponents of rows; a row of zeros gets the exponent of the largest row, so that it has no influence."""
    exponent = torch.where(exponent.isneginf(), exponent.amax(-1, keepdim=True), exponent)
    return torch.where(exponent.isneginf(), 0.0, exponent)


def _repeated(exponent: Tensor, count: int) -> Tensor:
    return exponent.repeat(*(1,) * (exponent.ndim - 1), count)
