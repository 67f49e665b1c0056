"""A module's own forward as a step function: how the module is called, and where the new state is in its result."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from rnndiag.cells.custom import StepLayer, step_layer
from rnndiag.cells.layer import Layout
from rnndiag.cells.step import State
from rnndiag.errors import ModelError


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of a module's state."""

    batch_axis: int
    """the axis that counts the sequences"""
    shape: tuple[int, ...]
    """the sizes of the other axes"""

    @property
    def size(self) -> int:
        """The numbers per sequence."""
        return math.prod(self.shape)

    def rows(self, tensor: Tensor) -> Tensor:
        """``[B, S]`` from the tensor as the module returns it."""
        return tensor.movedim(self.batch_axis, 0).flatten(1) if self.shape else tensor[:, None]

    def tensor(self, rows: Tensor) -> Tensor:
        """The tensor as the module takes it, from ``[B, S]``."""
        return rows.reshape(len(rows), *self.shape).movedim(0, self.batch_axis).contiguous()

    def fits(self, tensor: object, batch: int) -> bool:
        """Whether something is this part of a state for ``batch`` sequences."""
        shape = (*self.shape[: self.batch_axis], batch, *self.shape[self.batch_axis :])
        return isinstance(tensor, Tensor) and tensor.is_floating_point() and tuple(tensor.shape) == shape


@dataclass(frozen=True, slots=True, eq=False)
class CallForm:
    """How a module is called for one step, and which part of its result is the new state."""

    structure: pytree.TreeSpec
    """of the state"""
    parts: tuple[Part, ...]
    """of the state"""
    returned: int | slice | None
    """the index of the new state in the result; a slice where the parts are items of the result; None: the result"""
    state_first: bool = False
    """whether the state comes before the input"""
    spread: bool = False
    """whether each part of the state is an argument"""
    time_axis: int | None = None
    """the axis of the input that counts the steps; None: the module takes one step, ``[B, D]``"""
    default_dtype: bool = False
    """whether the module makes tensors in torch's default dtype, which must then be the dtype of the measurement"""

    @property
    def layout(self) -> Layout | None:
        """``BTD`` or ``TBD``; None for a module that takes one step."""
        if self.time_axis is None:
            return None
        return "TBD" if self.time_axis == 0 else "BTD"

    def call(self, module: nn.Module, state: Any, inputs: Tensor) -> Any:
        """The module's result, from the state as the module takes it; lists and named tuples in it become tuples."""
        given = list(state) if self.spread else [state]
        arguments = [*given, inputs] if self.state_first else [inputs, *given]
        with _default_dtype(inputs.dtype if self.default_dtype else None):
            return plain(module(*arguments))

    def new_state(self, result: Any) -> Any:
        """The new state in a result; None where there is nothing at its place."""
        if self.returned is None:
            return result
        if not isinstance(result, tuple):
            return None
        try:
            return result[self.returned]
        except IndexError:
            return None

    def run(self, module: nn.Module, rows: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, ...]:
        """The new state as rows, after inputs in the module's own shape.

        Raises:
            ModelError: if the module returns no state like the one that it was given.
        """
        parts = [part.tensor(each) for part, each in zip(self.parts, rows, strict=True)]
        new = self.new_state(self.call(module, pytree.tree_unflatten(parts, self.structure), inputs))
        leaves, structure = pytree.tree_flatten(new)
        batch = len(rows[0])
        if structure != self.structure or not all(p.fits(x, batch) for p, x in zip(self.parts, leaves, strict=True)):
            raise ModelError(f"{type(module).__qualname__}: returned no state like the state that it was given")
        return tuple(part.rows(leaf) for part, leaf in zip(self.parts, leaves, strict=True))

    def step(self, module: nn.Module, rows: Sequence[Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """One step: rows ``[B, S_i]`` of the state and inputs ``[B, D]`` to the new rows."""
        return self.run(module, rows, x if self.time_axis is None else x.unsqueeze(self.time_axis))

    def zeros(self, batch: int, like: Tensor) -> tuple[Tensor, ...]:
        """The rows of a zero state."""
        return tuple(like.new_zeros(batch, part.size) for part in self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class ModuleStep:
    """A module that is measured through its own forward, from a zero state."""

    name: str
    """the module's path in the model"""
    class_path: str
    module: nn.Module
    """a copy in evaluation mode, float64 on the CPU"""
    form: CallForm
    input_size: int
    stored_dtype: torch.dtype
    """the dtype of the module's own parameters"""
    embedding: Tensor | None = None
    """``[V, D]``: the table of the same model whose rows the module reads, where there is one"""

    @property
    def state_size(self) -> int:
        """``S``: all parts of the state together."""
        return sum(part.size for part in self.form.parts)

    def layer(self, inputs: Tensor) -> StepLayer:
        """The module as a layer in the dtype and on the device of inputs ``[T, B, D]``.

        Raises:
            ModelError: if the module cannot be measured as a step.
        """
        module = copy.deepcopy(self.module).to(inputs.device, inputs.dtype)
        zeros = tuple(torch.zeros(part.size, dtype=self.stored_dtype) for part in self.form.parts)
        state = State(zeros, pytree.tree_structure(zeros))
        initial = state.rows(inputs.shape[1], inputs)
        return step_layer(partial(self.form.step, module), state, initial, inputs, name=self.name)


def plain(result: Any) -> Any:
    """A result with plain tuples in place of lists and named tuples."""
    if isinstance(result, tuple | list):
        return tuple(map(plain, result))
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    return result


@contextmanager
def _default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        if dtype is not None:
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)
