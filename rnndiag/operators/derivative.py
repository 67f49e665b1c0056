"""The derivative of any differentiable function at many points, by automatic differentiation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnndiag.operators.base import BatchedOperator

CHUNK_BYTES = 1 << 20
"""Size of the largest of a call's arguments; what a function makes of them in between may be many times that."""

Rows = Callable[[Tensor, Tensor], Tensor]
"""``f(u, w)``: ``[N, n], [N, d] -> [N, m]``, each row by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Derivative(BatchedOperator):
    """``df/du`` or ``df/dw`` at every point ``(u, w)`` of a batch.

    All points advance together as the rows of a few calls; no matrix is built. Forward mode gives ``J v``, reverse
    mode ``J^T u``. Without forward mode ``J v`` is the derivative of ``J^T u`` by ``u``, in which it is linear.
    """

    u: Tensor
    """``[*batch, n]``"""
    w: Tensor
    """``[*batch, d]``"""
    factor: Tensor
    """What multiplies each map: ``[*batch, 1]``"""
    function: Rows
    size: int
    """``m``"""
    by: Literal["u", "w"]
    forward_mode: bool = True

    @property
    def per_map(self) -> tuple[str, ...]:
        return ("u", "w", "factor")

    @property
    def linear_in(self) -> tuple[str, ...]:
        return ("factor",)

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, (self.u if self.by == "u" else self.w).shape[-1]

    def mv(self, v: Tensor) -> Tensor:
        return self._by_rows(self._forward if self.forward_mode else self._twice_back, v)

    def rmv(self, u: Tensor) -> Tensor:
        return self._by_rows(self._back, u)

    def frobenius_squared(self) -> Tensor:
        """The sum over unit vectors of ``||J e||^2``: as many products as the map has columns, or rows."""
        m, n = self.shape
        apply, width = (self.mv, n) if n <= m else (self.rmv, m)
        together = max(1, self._rows_a_call // max(1, len(self)))
        basis = torch.eye(width, dtype=self.u.dtype, device=self.u.device)
        total = self.u.new_zeros(self.batch)
        for some in basis.split(together):
            unit = some.reshape(-1, *(1,) * len(self.batch), width).expand(-1, *self.batch, width)
            total += apply(unit).square().sum((0, -1))
        return total

    @property
    def _rows_a_call(self) -> int:
        widest = max(self.u.shape[-1], self.w.shape[-1], self.size)
        return max(1, CHUNK_BYTES // (self.u.element_size() * widest))

    def _by_rows(self, apply: Callable[[Tensor, Tensor, Tensor], Tensor], vectors: Tensor) -> Tensor:
        lead, count = vectors.shape[:-1], self._rows_a_call
        rows = [each.expand(*lead, each.shape[-1]).flatten(0, -2).split(count) for each in (self.u, self.w)]
        pieces = [apply(*each) for each in zip(*rows, vectors.flatten(0, -2).split(count), strict=True)]
        images: Tensor = torch.cat(pieces).unflatten(0, lead)
        return images * self.factor

    def _at(self, u: Tensor, w: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """The function of the one argument, and that argument."""
        if self.by == "u":
            return (lambda point: self.function(point, w)), u
        return (lambda point: self.function(u, point)), w

    def _forward(self, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        function, point = self._at(u, w)
        _ready_forward_mode()
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(point.contiguous(), v.contiguous()))).tangent
        return v.new_zeros(len(v), self.size) if tangent is None else tangent.detach()

    def _back(self, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        function, point = self._at(u, w)
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            return _gradient(function(point), point, v)

    def _twice_back(self, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        function, point = self._at(u, w)
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = function(point)
            adjoint = torch.zeros_like(value).requires_grad_()
            return _gradient(_gradient(value, point, adjoint, again=True), adjoint, v)


@cache
def _ready_forward_mode() -> None:
    """Let torch load what forward mode needs, which on first use warns of its own old ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def _gradient(value: Tensor, point: Tensor, vector: Tensor, *, again: bool = False) -> Tensor:
    """``vector^T dvalue/dpoint``, zero where the one does not depend on the other."""
    if not value.requires_grad:
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(
        value, point, vector, create_graph=again, allow_unused=True, materialize_grads=True
    )
    return gradient
