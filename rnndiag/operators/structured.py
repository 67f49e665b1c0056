"""The shapes that the step Jacobian of a recurrent cell takes; the third is in ``reset_first``.

``W`` is one matrix of ``K`` row blocks ``W_k`` shared by all maps; everything else is diagonal. Applying
all maps to one vector each is then a single GEMM and elementwise work.

Many nets of one shape make one operator too (``stacked``): the batch then ends in ``[N, 1, B]`` and ``W`` is
``[N, 1, 1, K*m, n]``, shared by the maps of a net; vectors end in ``[N, R, B, n]`` for any number ``R`` a map.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.wide import times_power_of_two


@dataclass(frozen=True, slots=True, eq=False)
class StepJacobian(BatchedOperator):
    """``ds_t/ds_{t-1}`` (or ``ds_t/dx_t``) for every step and sequence of a trajectory: batch ``[T, B]``.

    Its transpose passes the preactivations, where the gradient of ``W`` is found.
    """

    @abstractmethod
    def scatter(self, u: Tensor) -> Tensor:
        """The adjoint at the preactivations, ``[..., K*m]``, from the one at the new state."""

    @abstractmethod
    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        """``J^T u`` where ``scattered = scatter(u)`` is at hand."""

    @abstractmethod
    def with_rows_times(self, exponent: Tensor) -> Self:
        """``diag(2^exponent) J`` for integers ``[*batch, m]``, the same for all rows behind one projection."""

    def rmv(self, u: Tensor) -> Tensor:
        return self.rmv_from(u, self.scatter(u))


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalPlusShared(StepJacobian):
    """``J v = a * v + sum_k b_k * (W_k v)``: the Elman net's Jacobian (``a = 0``) and the GRU's.

    Without a carry the map may be rectangular, which makes it an input Jacobian too.
    """

    gain: Tensor
    """``b``: ``[*batch, K*m]``"""
    weight: Tensor
    """``W``: ``[K*m, n]``"""
    carry: Tensor | None = None
    """``a``: ``[*batch, m]``, or None for zero; needs ``m == n``"""
    blocks: int = 1
    """``K``"""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("gain", "carry")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("gain", "carry")

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[-2] // self.blocks, self.weight.shape[-1]

    def mv(self, v: Tensor) -> Tensor:
        scaled = times(v, self.weight.mT).mul_(self.gain)
        out = scaled if self.blocks == 1 else scaled.unflatten(-1, (self.blocks, -1)).sum(-2)
        return out if self.carry is None else out.addcmul_(self.carry, v)

    def scatter(self, u: Tensor) -> Tensor:
        return (u if self.blocks == 1 else u.repeat(*(1,) * (u.ndim - 1), self.blocks)) * self.gain

    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        out = times(scattered, self.weight)
        return out if self.carry is None else out.addcmul_(self.carry, u)

    def with_rows_times(self, exponent: Tensor) -> Self:
        repeated = exponent.repeat(*(1,) * (exponent.ndim - 1), self.blocks)
        carry = None if self.carry is None else times_power_of_two(self.carry, exponent)
        return replace(self, gain=times_power_of_two(self.gain, repeated), carry=carry)

    def frobenius_squared(self) -> Tensor:
        """Row ``i`` is ``a_i e_i + sum_k b_ki W_k[i]``, so its square needs only ``<W_k[i], W_l[i]>``."""
        if self.blocks == 1 and self.carry is None:
            return (self.gain.square() * self.weight.square().sum(-1)).sum(-1)
        rows = self.weight.unflatten(-2, (self.blocks, -1))
        gain = self.gain.unflatten(-1, (self.blocks, -1))
        products = torch.einsum("...kin,...lin->...ikl", rows, rows)
        total = torch.einsum("...ki,...ikl,...li->...", gain, products, gain)
        if self.carry is not None:
            on_diagonal = rows.diagonal(dim1=-2, dim2=-1)
            total = total + self.carry.square().sum(-1)
            total = total + 2 * torch.einsum("...i,...ki,...ki->...", self.carry, gain, on_diagonal)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class CarryReadout(StepJacobian):
    """The LSTM's Jacobian on ``(h, c)``: a carried part ``c`` and a readout ``h`` of it.

    With ``y = b * (W v_h)`` in four blocks (i, f, g, o)::

        dc = f * v_c + y_i + y_f + y_g
        dh = P (y_o + k * dc)              P = I without projection

    Without ``forget`` there is no incoming ``v_c``: the map from an input to ``(h, c)``.
    """

    gain: Tensor
    """``b``: ``[*batch, 4*H]``"""
    readout: Tensor
    """``k``: ``[*batch, H]``"""
    weight: Tensor
    """``W``: ``[4*H, R]``"""
    forget: Tensor | None = None
    """``f``: ``[*batch, H]``"""
    projection: Tensor | None = None
    """``P``: ``[R, H]``"""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("gain", "readout", "forget")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("gain", "forget")

    @property
    def shape(self) -> tuple[int, int]:
        return readout_shape(self.weight, self.forget, self.projection)

    def mv(self, v: Tensor) -> Tensor:
        incoming, hidden = self.weight.shape[-1], self.weight.shape[-2] // 4
        y = times(v[..., :incoming], self.weight.mT).mul_(self.gain).unflatten(-1, (4, hidden))
        dc = y[..., :3, :].sum(-2)
        if self.forget is not None:
            dc = dc.addcmul_(self.forget, v[..., incoming:])
        dh = y[..., 3, :] + self.readout * dc
        if self.projection is not None:
            dh = times(dh, self.projection.mT)
        return torch.cat((dh, dc), dim=-1)

    def scatter(self, u: Tensor) -> Tensor:
        at_output, at_cell = self._through_readout(u)
        return torch.cat((at_cell, at_cell, at_cell, at_output), dim=-1).mul_(self.gain)

    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        at_input = times(scattered, self.weight)
        if self.forget is None:
            return at_input
        return torch.cat((at_input, self.forget * self._through_readout(u)[1]), dim=-1)

    def with_rows_times(self, exponent: Tensor) -> Self:
        outgoing = self.shape[0] - self.readout.shape[-1]
        cell = exponent[..., outgoing:]
        output = exponent[..., :outgoing] if self.projection is None else exponent[..., :1].expand_as(cell)
        repeated = torch.cat((cell.repeat(*(1,) * (cell.ndim - 1), 3), output), -1)
        # dh reads dc, whose rows have been scaled. A row of dc that becomes zero is as small in dh.
        above = torch.where(cell.isneginf(), -torch.inf, output - cell)
        return replace(
            self,
            gain=times_power_of_two(self.gain, repeated),
            readout=times_power_of_two(self.readout, above),
            forget=None if self.forget is None else times_power_of_two(self.forget, cell),
        )

    def frobenius_squared(self) -> Tensor:
        """Sums the squares of the four parts ``dc/dv_h``, ``dc/dv_c``, ``dh/dv_h``, ``dh/dv_c``."""
        hidden = self.readout.shape[-1]
        rows = self.weight.unflatten(-2, (4, hidden))
        gain = self.gain.unflatten(-1, (4, hidden))
        products = torch.einsum("...kin,...lin->...ikl", rows, rows)
        total = torch.einsum("...ki,...ikl,...li->...", gain[..., :3, :], products[..., :3, :3], gain[..., :3, :])
        # What multiplies W_k in dh before the projection: k * b for i, f, g and b for o.
        read = torch.cat((self.readout[..., None, :] * gain[..., :3, :], gain[..., 3:, :]), dim=-2)
        carried = None if self.forget is None else self.readout * self.forget
        if self.forget is not None:
            total = total + self.forget.square().sum(-1)
        if self.projection is None:
            total = total + torch.einsum("...ki,...ikl,...li->...", read, products, read)
            return total if carried is None else total + carried.square().sum(-1)
        # ||P diag(x) W||_F^2 = x^T ((P^T P) o (W W^T)) x, with x over the four blocks at once.
        gram = _tiled(self.projection.mT @ self.projection, 4) * (self.weight @ self.weight.mT)
        x = read.flatten(-2)
        total = total + (times(x, gram) * x).sum(-1)
        if carried is None:
            return total
        return total + (carried.square() * self.projection.square().sum(-2)).sum(-1)

    def _through_readout(self, u: Tensor) -> tuple[Tensor, Tensor]:
        outgoing = self.shape[0] - self.readout.shape[-1]
        at_output, at_cell = u[..., :outgoing], u[..., outgoing:]
        if self.projection is not None:
            at_output = times(at_output, self.projection)
        return at_output, at_cell + self.readout * at_output


def readout_shape(weight: Tensor, forget: Tensor | None, projection: Tensor | None) -> tuple[int, int]:
    """``(m, n)`` of a map to ``(h, c)``; without ``forget`` there is no incoming ``c``."""
    hidden, incoming = weight.shape[-2] // 4, weight.shape[-1]
    outgoing = hidden if projection is None else projection.shape[-2]
    return outgoing + hidden, incoming + (hidden if forget is not None else 0)


Kind = TypeVar("Kind", bound=StepJacobian)


def stacked(nets: Sequence[Kind]) -> Kind:
    """One operator for ``N`` nets of one shape, each of batch ``[T, B]``: batch ``[T, N, 1, B]``."""
    first = nets[0]
    together: dict[str, Tensor] = {}
    for field in fields(first):
        if isinstance(getattr(first, field.name), Tensor):
            each = [getattr(net, field.name) for net in nets]
            diagonal = field.name in first.per_map
            together[field.name] = torch.stack(each, 1)[:, :, None] if diagonal else torch.stack(each)[:, None, None]
    return replace(first, **together)


def times(v: Tensor, matrix: Tensor) -> Tensor:
    """``v @ matrix`` for one matrix, and ``[..., N, R, B, n]`` times ``[N, 1, 1, n, m]`` for a matrix a net.

    By broadcasting, torch would copy each matrix ``R`` times.
    """
    if matrix.ndim == 2:
        return v @ matrix
    by_net = v.movedim(-4, 0)
    product = torch.bmm(by_net.flatten(1, -2), matrix.flatten(0, 2))
    return product.view(*by_net.shape[:-1], -1).movedim(0, -4)


def _tiled(square: Tensor, count: int) -> Tensor:
    return square.repeat(*(1,) * (square.ndim - 2), count, count)
