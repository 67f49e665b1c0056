r"""Step Jacobians with a layer normalization between the shared matrix and the diagonals, or on the cell state.

``u -> (u - mean u) / sqrt(var u + eps) = u^`` has the derivative ``(1 / sigma) P`` with

    P = (I - 1 1^T / n) (I - u^ u^^T / n)

for each group of ``n`` entries, because ``u^`` has mean zero. The first factor is the same for all maps and both
factors commute, so the shared matrix is stored with its groups centered: ``P W v = W v - u^ (u^^T W v) / n``. The
gains ``gamma / sigma`` belong to the diagonals. ``P`` is symmetric, and it is never formed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from rnndiag.operators.structured import StepJacobian, readout_shape, times
from rnndiag.operators.wide import times_power_of_two

CHUNK_BYTES = 32 << 20
"""Size of the vectors of the maps whose Frobenius norms are computed together."""

CANCELED = 1e-2
"""A squared norm that is a smaller share of its terms is computed again, column by column.

A norm behind a norm cancels twice: rounding errors of 1e-12 of the terms were seen, so at least 10 digits are kept.
"""


def centered(weight: Tensor, groups: int) -> Tensor:
    """A matrix of rows in groups of equal size, without the mean row of each group."""
    rows: Tensor = weight.unflatten(-2, (groups, -1))
    rows = rows - rows.mean(-2, keepdim=True)
    return rows.flatten(-3, -2)


def project(vectors: Tensor, direction: Tensor, groups: int, sign: float) -> Tensor:
    """``v - u^ (u^^T v) / n`` in each group, with ``u^`` the ``direction``; ``sign=-1`` adds the second term."""
    v: Tensor = vectors.unflatten(-1, (groups, -1))
    u: Tensor = direction.unflatten(-1, (groups, -1))
    rest = v - u * ((u * v).sum(-1, keepdim=True) * (sign / u.shape[-1]))
    return rest.flatten(-2)


def without_mean(vectors: Tensor, groups: int) -> Tensor:
    """Each group of entries without its mean."""
    parts: Tensor = vectors.unflatten(-1, (groups, -1))
    parts = parts - parts.mean(-1, keepdim=True)
    return parts.flatten(-2)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """``terms - removed`` ``[batch]``, kept apart to see how much of it cancels."""

    terms: Tensor
    removed: Tensor

    def __add__(self, other: Difference) -> Difference:
        return Difference(self.terms + other.terms, self.removed + other.removed)


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """``sum_r left_r right_r^T``: vectors ``[batch, r, m]`` and ``[batch, r, n]``."""

    left: Tensor
    right: Tensor

    def difference(self, terms: Tensor, image: Tensor, projection: Tensor | None) -> Difference:
        """``||R (M - left right^T)||_F^2``, given ``||R M||_F^2`` and the image ``M right``."""
        left = self.left
        if projection is not None:
            left, image = left @ projection.mT, image @ projection.mT
        square = ((left @ left.mT) * (self.right @ self.right.mT)).sum((-1, -2))
        return Difference(terms, 2 * (left * image).sum((-1, -2)) - square)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NormedJacobian(StepJacobian):
    """What the two operators share: ``P W`` and norms by rows."""

    gain: Tensor
    """``b``: ``[*batch, K*m]``"""
    weight: Tensor
    """``W``: ``[K*m, n]``; ``centered`` where there is a ``direction``"""
    direction: Tensor | None
    """``u^``: ``[*batch, K*m]``; None: nothing is normalized between ``W`` and the diagonals"""
    groups: int = 1
    """The number of groups of ``u^``: 1, or ``K``."""
    sign: float = 1.0
    """1. With -1, and absolute values in all fields, the operator bounds ``|J| |v|``."""

    def normed(self, v: Tensor) -> Tensor:
        """``P W v``."""
        image = times(v, self.weight.mT)
        return image if self.direction is None else project(image, self.direction, self.groups, self.sign)

    def adjoint(self, at_gain: Tensor) -> Tensor:
        """``P`` applied to an adjoint: what reaches ``W v``."""
        if self.direction is None:
            return at_gain
        return without_mean(project(at_gain, self.direction, self.groups, self.sign), self.groups)

    @property
    def absolute(self) -> Self:
        """An operator that bounds ``|J| |v|`` entry by entry."""
        present = [name for name in (*self._present(), *self._shared()) if getattr(self, name) is not None]
        return replace(self, sign=-1.0, **{name: getattr(self, name).abs() for name in present})

    @abstractmethod
    def _shared(self) -> tuple[str, ...]:
        """Names of the matrices."""

    @abstractmethod
    def _squares(self) -> Difference:
        """``||J||_F^2`` of maps with one batch axis."""

    def frobenius_squared(self) -> Tensor:
        """Adds up norms of rows and products with the few vectors that ``P`` removes, a chunk of maps at a time.

        Where almost everything is removed, as by a norm over two entries, the difference has lost its digits, and the
        norm comes from the columns of the map.
        """
        flat = self.flatten()
        size = max(1, CHUNK_BYTES // (self.gain.element_size() * sum(self.weight.shape[-2:]) * (self.groups + 2)))
        sums = []
        for i in range(0, len(flat), size):
            chunk = flat[i : i + size]
            found = chunk._squares()
            squares = found.terms - found.removed
            for one in (squares < CANCELED * found.terms).nonzero().flatten().tolist():
                squares[one] = chunk[one : one + 1].to_dense().square().sum()
            sums.append(squares)
        return torch.cat(sums).reshape(self.batch)

    def _removed(self, factors: Tensor) -> LowRank:
        """``L R^T`` in ``sum_k diag(x_k) (P W)_k = sum_k diag(x_k) W_k - L R^T``, for factors ``x [batch, K, m]``."""
        if self.direction is None:
            return LowRank(factors[:, :0], self.weight.new_zeros(len(factors), 0, self.weight.shape[-1]))
        parts = (self.groups, factors.shape[1] // self.groups, factors.shape[2])
        u = self.direction.unflatten(-1, parts)
        left = (factors.unflatten(1, parts[:2]) * u).sum(2)
        right = torch.einsum("bgx,gxn->bgn", u.flatten(-2), self.weight.unflatten(-2, (self.groups, -1)))
        return LowRank(left, right / (parts[1] * parts[2]))

    def _norm_of(self, factors: Tensor, removed: LowRank, projection: Tensor | None = None) -> Difference:
        """``||R (sum_k diag(x_k) W_k - left right^T)||_F^2``, with ``R`` the projection."""
        blocks = factors.shape[1]
        images = times(removed.right, self.weight.mT).unflatten(-1, (blocks, -1))
        image = (images * factors[:, None]).sum(-2)
        if projection is None:
            rows = self.weight.unflatten(-2, (blocks, -1))
            products = torch.einsum("kin,lin->ikl", rows, rows)
            terms = torch.einsum("bki,ikl,bli->b", factors, products, factors)
        else:
            gram = (projection.mT @ projection).repeat(blocks, blocks) * (self.weight @ self.weight.mT)
            flat = factors.flatten(1)
            terms = ((flat @ gram) * flat).sum(-1)
        return removed.difference(terms, image, projection)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NormedShared(NormedJacobian):
    """``J v = a * v + sum_k b_k * (P W v)_k``: the GRU's, with a norm of its preactivations."""

    carry: Tensor | None = None
    """``a``: ``[*batch, m]``, or None for zero; needs ``m == n``"""
    blocks: int = 3
    """``K``"""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("gain", "direction", "carry")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("gain", "carry")

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[-2] // self.blocks, self.weight.shape[-1]

    def mv(self, v: Tensor) -> Tensor:
        out: Tensor = (self.normed(v) * self.gain).unflatten(-1, (self.blocks, -1)).sum(-2)
        return out if self.carry is None else out.addcmul_(self.carry, v)

    def scatter(self, u: Tensor) -> Tensor:
        return self.adjoint(u.repeat(*(1,) * (u.ndim - 1), self.blocks) * self.gain)

    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        out = times(scattered, self.weight)
        return out if self.carry is None else out.addcmul_(self.carry, u)

    def with_rows_times(self, exponent: Tensor) -> Self:
        repeated = exponent.repeat(*(1,) * (exponent.ndim - 1), self.blocks)
        carry = None if self.carry is None else times_power_of_two(self.carry, exponent)
        return replace(self, gain=times_power_of_two(self.gain, repeated), carry=carry)

    def _shared(self) -> tuple[str, ...]:
        return ("weight",)

    def _squares(self) -> Difference:
        factors = self.gain.unflatten(-1, (self.blocks, -1))
        low = self._removed(factors)
        found = self._norm_of(factors, low)
        if self.carry is None:
            return found
        on_diagonal = self.weight.unflatten(-2, (self.blocks, -1)).diagonal(dim1=-2, dim2=-1)
        crossed = 2 * self.carry * ((factors * on_diagonal).sum(1) - (low.left * low.right).sum(1))
        return Difference(found.terms + self.carry.square().sum(-1), found.removed - crossed.sum(-1))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NormedReadout(NormedJacobian):
    """The LSTM's Jacobian on ``(h, c)`` with norms of its preactivations and of its cell state.

    With ``y = b * (P W v_h)`` in four blocks (i, f, g, o)::

        raw = f * v_c + y_i + y_f + y_g
        seen = P_c raw                      P_c of the norm of the cell state, else I
        dc = s * seen, or raw               dc is raw where the norm does not feed back
        dh = R (y_o + k * seen)             R = I without projection
    """

    readout: Tensor
    """``k``, with the norm's gain in it: ``[*batch, H]``"""
    forget: Tensor | None
    """``f``: ``[*batch, H]``; None in the map of an input"""
    projection: Tensor | None = None
    """``R``: ``[P, H]``"""
    cell_direction: Tensor | None = None
    """``u^`` of the cell state: ``[*batch, H]``"""
    cell_scale: Tensor | None = None
    """``s``: ``[*batch, H]``; None for 1"""
    feeds_back: bool = True
    """Whether ``dc`` is ``s * seen``."""

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("gain", "direction", "readout", "forget", "cell_direction", "cell_scale")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("gain", "forget")

    @property
    def shape(self) -> tuple[int, int]:
        return readout_shape(self.weight, self.forget, self.projection)

    def mv(self, v: Tensor) -> Tensor:
        incoming, hidden = self.weight.shape[-1], self.weight.shape[-2] // 4
        y = (self.normed(v[..., :incoming]) * self.gain).unflatten(-1, (4, hidden))
        raw = y[..., :3, :].sum(-2)
        if self.forget is not None:
            raw = raw.addcmul_(self.forget, v[..., incoming:])
        seen = self._cell_norm(raw)
        dc = seen if self.feeds_back else raw
        dh = y[..., 3, :] + self.readout * seen
        if self.projection is not None:
            dh = times(dh, self.projection.mT)
        return torch.cat((dh, dc if self.cell_scale is None else dc * self.cell_scale), dim=-1)

    def scatter(self, u: Tensor) -> Tensor:
        at_output, at_raw = self._through_readout(u)
        return self.adjoint(torch.cat((at_raw, at_raw, at_raw, at_output), dim=-1) * self.gain)

    def rmv_from(self, u: Tensor, scattered: Tensor) -> Tensor:
        at_input = times(scattered, self.weight)
        if self.forget is None:
            return at_input
        return torch.cat((at_input, self.forget * self._through_readout(u)[1]), dim=-1)

    def with_rows_times(self, exponent: Tensor) -> Self:
        outgoing = self.shape[0] - self.readout.shape[-1]
        cell = exponent[..., outgoing:]
        output = exponent[..., :outgoing] if self.projection is None else exponent[..., :1].expand_as(cell)
        scale = torch.ones_like(self.readout) if self.cell_scale is None else self.cell_scale
        to_cell, to_output = self.gain.split((3 * cell.shape[-1], cell.shape[-1]), -1)
        return replace(
            self,
            gain=torch.cat((to_cell, times_power_of_two(to_output, output)), -1),
            readout=times_power_of_two(self.readout, output),
            cell_scale=times_power_of_two(scale, cell),
        )

    def _shared(self) -> tuple[str, ...]:
        return ("weight", "projection")

    def _cell_norm(self, raw: Tensor) -> Tensor:
        if self.cell_direction is None:
            return raw
        raw = without_mean(raw, 1) if self.sign > 0 else raw + raw.mean(-1, keepdim=True)
        return project(raw, self.cell_direction, 1, self.sign)

    def _through_readout(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoints at the output gate's row and at ``raw``."""
        outgoing = self.shape[0] - self.readout.shape[-1]
        at_output, at_cell = u[..., :outgoing], u[..., outgoing:]
        if self.projection is not None:
            at_output = times(at_output, self.projection)
        if self.cell_scale is not None:
            at_cell = at_cell * self.cell_scale
        if self.feeds_back:
            return at_output, self._cell_norm(at_cell + self.readout * at_output)
        return at_output, at_cell + self._cell_norm(self.readout * at_output)

    def _squares(self) -> Difference:
        """Sums the squares of the four parts ``dc/dv_h``, ``dc/dv_c``, ``dh/dv_h``, ``dh/dv_c``.

        Each of them is diagonals times the shared matrix, or a diagonal, less a map of low rank.
        """
        hidden = self.readout.shape[-1]
        gain = self.gain.unflatten(-1, (4, hidden))
        to_raw = gain * gain.new_tensor([1.0, 1.0, 1.0, 0.0])[:, None]
        scale = torch.ones_like(self.readout) if self.cell_scale is None else self.cell_scale
        columns = self._columns()
        # What P_c removes of the map from v_h to raw: C times (C^T of that map).
        at_raw = columns[:, :, None] * to_raw[:, None]
        pulled = self.adjoint(at_raw.flatten(2).movedim(1, 0)).movedim(0, 1) @ self.weight
        found = Difference(torch.zeros_like(scale[:, 0]), torch.zeros_like(scale[:, 0]))
        for weights, at_output, projection, normed in (
            (scale, None, None, self.feeds_back),
            (self.readout, gain[:, 3], self.projection, True),
        ):
            factors = to_raw * weights[:, None]
            if at_output is not None:
                factors = torch.cat((factors[:, :3], at_output[:, None]), 1)
            low = self._removed(factors)
            used = columns * weights[:, None] if normed else columns[:, :0]
            low = LowRank(torch.cat((low.left, used), 1), torch.cat((low.right, pulled[:, : used.shape[1]]), 1))
            found = found + self._norm_of(factors, low, projection)
            if self.forget is not None:
                carried = LowRank(used, columns[:, : used.shape[1]] * self.forget[:, None])
                kept = weights * self.forget
                sizes = 1.0 if projection is None else projection.square().sum(-2)
                terms = (kept.square() * sizes).sum(-1)
                found = found + carried.difference(terms, carried.right * kept[:, None], projection)
        return found

    def _columns(self) -> Tensor:
        """The orthogonal unit-size columns of ``C`` in ``P_c = I - C C^T``: ``[batch, 2, H]``, or none."""
        if self.cell_direction is None:
            return self.readout[:, None, :][:, :0]
        both = torch.stack((torch.ones_like(self.cell_direction), self.cell_direction), 1)
        return both * (1 / math.sqrt(self.cell_direction.shape[-1]))
