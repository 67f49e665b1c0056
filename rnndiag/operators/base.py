"""The contract of a batch of linear maps that share their matrices, and the algebra built on it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class BatchedOperator(ABC):
    """Linear maps ``R^n -> R^m``, one for each index of ``batch``, applied to one vector each.

    A subclass is a frozen dataclass of tensors. Fields listed in ``per_map`` carry the batch axes
    first; the others are shared by all maps, so a batch costs memory in proportion to its
    diagonals and never to ``n*m``.
    """

    @property
    @abstractmethod
    def per_map(self) -> tuple[str, ...]:
        """Names of the fields whose leading axes are the batch."""

    @property
    @abstractmethod
    def linear_in(self) -> tuple[str, ...]:
        """Names of the per-map fields that the map is proportional to, taken together."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """``(m, n)`` of each map."""

    @abstractmethod
    def mv(self, v: Tensor) -> Tensor:
        """``J v``: ``[..., *batch, n] -> [..., *batch, m]``."""

    @abstractmethod
    def rmv(self, u: Tensor) -> Tensor:
        """``J^T u``: ``[..., *batch, m] -> [..., *batch, n]``."""

    @abstractmethod
    def frobenius_squared(self) -> Tensor:
        """``||J||_F^2`` of each map, exactly: ``[*batch]``."""

    @property
    def reference(self) -> Tensor:
        """A per-map field, for its batch axes, dtype and device."""
        tensor: Tensor = getattr(self, self.per_map[0])
        return tensor

    @property
    def batch(self) -> torch.Size:
        """The batch axes."""
        return self.reference.shape[:-1]

    def __getitem__(self, index: Any) -> Self:
        """The maps at an index into the batch axes (an int, a slice, an index or mask tensor)."""
        return replace(self, **{name: getattr(self, name)[index] for name in self._present()})

    def unbind(self) -> list[Self]:
        """The maps along the first batch axis, one by one."""
        names = self._present()
        each = zip(*(getattr(self, name).unbind() for name in names), strict=True)
        return [replace(self, **dict(zip(names, tensors, strict=True))) for tensors in each]

    def scaled(self, factor: Tensor) -> Self:
        """``factor * J`` with a factor for each map, ``[*batch]``."""
        present = [name for name in self.linear_in if getattr(self, name) is not None]
        return replace(self, **{name: getattr(self, name) * factor[..., None] for name in present})

    def flatten(self) -> Self:
        """The same maps with a single batch axis."""
        flat = {name: getattr(self, name) for name in self._present()}
        return replace(self, **{name: t.reshape(-1, t.shape[-1]) for name, t in flat.items()})

    def to_dense(self) -> Tensor:
        """``[*batch, m, n]``: for tests and small sizes only."""
        n = self.shape[1]
        like = self.reference
        basis = torch.eye(n, dtype=like.dtype, device=like.device)
        columns = self.mv(basis.reshape(n, *(1,) * len(self.batch), n).expand(n, *self.batch, n))
        return columns.movedim(0, -1)

    def __len__(self) -> int:
        return math.prod(self.batch)

    def _present(self) -> tuple[str, ...]:
        known = {field.name for field in fields(self)}
        return tuple(name for name in self.per_map if name in known and getattr(self, name) is not None)
