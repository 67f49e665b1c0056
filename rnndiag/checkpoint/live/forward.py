"""How a module's own forward is called for one step, found out by trying it on a few small inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from rnndiag.cells.module_step import CallForm, ModuleStep, Part, plain
from rnndiag.checkpoint.live.arguments import orders, parameter_names
from rnndiag.errors import ModelError, UnfitError, describe_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOLERANCE: Final = 1e-9
"""The largest difference, relative to the largest number, at which two float64 runs count as the same."""
MAX_WIDTHS: Final = 8
"""The largest number of input sizes, and of state sizes, that are tried."""
MAX_CALLS: Final = 400
"""The largest number of calls of one module."""
STEPS: Final = 3
"""The steps of the sequence on which a module that takes sequences is tried."""

STATE_SIZES: Final = ("hidden_size", "hidden_dim", "hidden_features", "n_hidden", "units", "state_size", "num_units")
"""Attributes that hold the number of units."""
_WRONG_DTYPE: Final = re.compile(r"dtype|scalar type|Float|Double")
"""Errors of modules that make tensors in torch's default dtype."""
_INPUT_SIZES: Final = (
    "input_size",
    "sensory_size",
    "in_features",
    "input_dim",
    "in_dim",
    "n_inputs",
    "input_shape",
    "d_input",
)


@dataclass(frozen=True, slots=True)
class Widths:
    """The input sizes and the state sizes to try, the likeliest first."""

    inputs: tuple[int, ...]
    states: tuple[int, ...]

    @classmethod
    def of(cls, module: nn.Module, input_size: int | None = None, hidden_size: int | None = None) -> Widths:
        """The widths that are known, or that the module's attributes or the shapes of its parameters suggest."""
        matrices = [tuple(p.shape) for p in module.parameters() if p.ndim == 2]
        columns = sorted({shape[1] for shape in matrices} - {0, 1})
        every = sorted({size for shape in matrices for size in shape} - {0, 1})
        blocks = [rows // n for rows, _ in matrices for n in (4, 3, 2) if rows % n == 0]
        states = [*_given(hidden_size), *_attributes(module, STATE_SIZES), *every, *blocks]
        joined = [column - state for column in columns for state in states if 1 < state < column - 1]
        inputs = _given(input_size) or [*_attributes(module, _INPUT_SIZES), *columns, *joined, *every]
        return cls(_first(inputs), _first(states))


def find_form(module: nn.Module, widths: Widths) -> tuple[CallForm, int]:
    """The form in which a module is a step function, and its input size.

    Args:
        module: a private copy. It is called within ``isolated``.
        widths: the sizes to try.

    Raises:
        UnfitError: no form works; the message says what the likeliest form led to.
    """
    tries = _Tries(module)
    for size in widths.inputs:
        for form in tries.forms(size, widths.states):
            if tries.accepts(form, size):
                return form, size
    raise UnfitError(tries.reason)


def starts_at_zero(module: nn.Module, form: CallForm, size: int) -> bool:
    """Whether a module without a given state starts from zero, or needs a given state."""
    inputs = torch.randn(STEPS, 2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shaped = inputs[0] if form.time_axis is None else inputs.movedim(0, form.time_axis)
    from_zero = form.run(module, form.zeros(2, inputs), shaped)
    try:
        new = form.new_state(plain(module(shaped)))
    except Exception:  # the module's own code: it needs a state
        return True
    leaves = pytree.tree_leaves(new)
    parts = list(zip(form.parts, leaves, strict=False))
    if len(leaves) != len(form.parts) or not all(part.fits(leaf, 2) for part, leaf in parts):
        return True
    return all(same(part.rows(leaf), zero) for (part, leaf), zero in zip(parts, from_zero, strict=True))


class _Tries:
    """Calls a module in one form after the other, and remembers what went wrong."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._names = parameter_names(module)
        self._errors: dict[bool, str] = {}
        self._calls = 0
        self._last_reason = ""
        sizes = {size for p in module.parameters() for size in p.shape}
        self._batches = [n for n in (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43) if n not in sizes][:2] or [47, 53]
        self._stream = torch.Generator().manual_seed(0)

    @property
    def reason(self) -> str:
        """Why no form works."""
        shown = f"forward({', '.join(self._names)})" if self._names is not None else "forward"
        # What went wrong with a state says more than that a state is missing.
        said = self._last_reason or self._errors.get(True) or self._errors.get(False) or "it returned no state"
        return f"its own {shown} could not be used as a step: {said}"

    def forms(self, size: int, states: Sequence[int]) -> Iterator[CallForm]:
        """Forms in which the module returns a state like the one that it is given."""
        if self._names is not None and not self._names:
            return
        if not isinstance(self._module, nn.RNNBase):
            yield from self._forms(None, size, states)
        if not isinstance(self._module, nn.RNNCellBase):
            for axis in self._time_axes():
                yield from self._forms(axis, size, states)

    def accepts(self, form: CallForm, size: int) -> bool:
        """Whether a form is a step that can be differentiated; else the reason is kept."""
        small = torch.randn(STEPS, self._batches[0], size, dtype=torch.float64, generator=self._stream)
        name = type(self._module).__qualname__
        try:
            if form.time_axis is not None and not self._iterates(form, small):
                raise UnfitError(f"one call over {STEPS} steps gives another state than {STEPS} calls of one step")
            ModuleStep(name, "", self._module, form, size, torch.float64).layer(small)
        except ModelError as error:
            self._last_reason = str(error).removeprefix(f"{name}: ")
        except UnfitError as error:
            self._last_reason = str(error)
        except Exception as error:  # the module's own code
            self._last_reason = describe_error(error)
        else:
            return True
        return False

    def _time_axes(self) -> tuple[int, ...]:
        stated = getattr(self._module, "batch_first", None)
        return (0, 1) if not isinstance(stated, bool) else (int(stated),)

    def _forms(self, axis: int | None, size: int, states: Sequence[int]) -> Iterator[CallForm]:
        for default in (False, True):
            found = False
            if default and not any(_WRONG_DTYPE.search(error) for error in self._errors.values()):
                return
            for given in self._states(axis, size, states, default=default):
                for form in self._with_state(given, axis, size, default=default):
                    found = True
                    yield form
            if found:
                return

    def _states(self, axis: int | None, size: int, widths: Sequence[int], *, default: bool) -> Iterator[_State]:
        """States that the module may take: those that it returns without any, then zeros of the likeliest sizes."""
        one, other = (self._without_state(axis, size, batch, default=default) for batch in self._batches)
        if one is not None and other is not None:
            for first, second in zip(_candidates(one), _candidates(other), strict=False):
                state = self._compared(first, second)
                if state is not None:
                    yield state
        lead = ((),) if axis is None else ((1,), ())
        for before in lead:
            for width in widths:
                part = Part(len(before), (*before, width))
                yield _State.of(part, tuple_=False)
            for pair in product(widths[:3], repeat=2):
                yield _State.of(*(Part(len(before), (*before, width)) for width in pair))
            for width in widths:
                yield _State.of(Part(len(before), (*before, width)))

    def _without_state(self, axis: int | None, size: int, batch: int, *, default: bool) -> Any:
        form = CallForm(pytree.tree_structure(()), (), None, spread=True, time_axis=axis, default_dtype=default)
        return self._called(form, (), self._inputs(axis, size, batch))

    def _with_state(self, state: _State, axis: int | None, size: int, *, default: bool) -> Iterator[CallForm]:
        form = CallForm(state.structure, state.parts, None, time_axis=axis, default_dtype=default)
        for spread in (False, True) if state.is_tuple else (False,):
            found = orders(self._names, len(state.parts) if spread else 1)
            if not found and self._names is not None and len(self._names) > 1:
                self._errors.setdefault(True, "the names of its arguments do not say which of them are the state")
            for first in found:
                yield from self._returning(replace(form, spread=spread, state_first=first), size)

    def _returning(self, form: CallForm, size: int) -> Iterator[CallForm]:
        """The form with each place in the result at which there is a state like the given one."""
        batch = self._batches[0]
        given = pytree.tree_unflatten([p.tensor(self._random(batch, p.size)) for p in form.parts], form.structure)
        result = self._called(form, given, self._inputs(form.time_axis, size, batch))
        if result is None:
            return
        places: list[int | slice | None] = [None]
        if isinstance(result, tuple):
            places += [len(result) - 1, *range(len(result) - 1)]
            if form.spread:
                places.append(slice(len(result) - len(form.parts), None))
        for place in places:
            found = replace(form, returned=place)
            leaves, structure = pytree.tree_flatten(found.new_state(result))
            alike = structure == form.structure and len(leaves) == len(form.parts)
            if alike and all(p.fits(leaf, batch) for p, leaf in zip(form.parts, leaves, strict=True)):
                if self._is_ambiguous(form, size):
                    self._last_reason = "the names of its arguments do not say which of them is the state"
                    return
                if self._depends(found, given, result, size):
                    yield found

    def _is_ambiguous(self, form: CallForm, size: int) -> bool:
        """Whether input and state could be swapped without an error: nothing then says which is which."""
        return (
            form.time_axis is None
            and not form.spread
            and len(orders(self._names, 1)) == 2
            and len(form.parts) == 1
            and form.parts[0] == Part(0, (size,))
        )

    def _depends(self, form: CallForm, given: Any, result: Any, size: int) -> bool:
        """Whether the new state depends on the old one."""
        batch = self._batches[0]
        moved = pytree.tree_map(lambda part: part + 0.1 * torch.rand(part.shape, generator=self._stream), given)
        drive = self._inputs(form.time_axis, size, batch)
        one, other = (self._called(form, state, drive) for state in (given, moved))
        if one is None or other is None:
            return False
        del result
        leaves = [pytree.tree_leaves(form.new_state(each)) for each in (one, other)]
        return len(leaves[0]) == len(leaves[1]) and any(
            not same(a, b) for a, b in zip(*leaves, strict=True) if isinstance(a, Tensor) and isinstance(b, Tensor)
        )

    def _iterates(self, form: CallForm, inputs: Tensor) -> bool:
        """Whether single steps lead where one call over all steps leads."""
        rows = form.zeros(inputs.shape[1], inputs)
        whole = form.run(self._module, rows, inputs if form.time_axis == 0 else inputs.transpose(0, 1))
        for x in inputs:
            rows = form.step(self._module, rows, x)
        return all(same(one, other) for one, other in zip(rows, whole, strict=True))

    def _compared(self, one: Any, other: Any) -> _State | None:
        """The state that two results for different numbers of sequences have at the same place."""
        (leaves, structure), (others, also) = pytree.tree_flatten(one), pytree.tree_flatten(other)
        if structure != also or not leaves:
            return None
        parts = []
        for leaf, twin in zip(leaves, others, strict=True):
            if not isinstance(leaf, Tensor) or not isinstance(twin, Tensor) or not leaf.is_floating_point():
                return None
            if leaf.ndim != twin.ndim:
                return None
            sizes = list(zip(leaf.shape, twin.shape, strict=True))
            axes = [i for i, pair in enumerate(sizes) if pair == tuple(self._batches)]
            others_alike = all(a == b for i, (a, b) in enumerate(sizes) if i not in axes)
            if len(axes) != 1 or not others_alike:
                return None
            shape = tuple(size for i, size in enumerate(leaf.shape) if i != axes[0])
            parts.append(Part(axes[0], shape))
        return _State(structure, tuple(parts))

    def _inputs(self, axis: int | None, size: int, batch: int) -> Tensor:
        if axis is None:
            return self._random(batch, size)
        return self._random(STEPS, batch, size) if axis == 0 else self._random(batch, STEPS, size)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=self._stream)

    def _called(self, form: CallForm, state: Any, inputs: Tensor) -> Any:
        self._calls += 1
        if self._calls > MAX_CALLS:
            return None
        try:
            return form.call(self._module, state, inputs)
        except Exception as error:  # the module's own code
            self._errors.setdefault(bool(form.parts), describe_error(error))
            return None


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    structure: pytree.TreeSpec
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, *parts: Part, tuple_: bool = True) -> _State:
        return cls(pytree.tree_structure(parts if tuple_ else 0), parts)

    @property
    def is_tuple(self) -> bool:
        return isinstance(pytree.tree_unflatten([0] * len(self.parts), self.structure), tuple)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two float64 tensors are equal up to the tolerance; NaN equals NaN."""
    if one.shape != other.shape:
        return False
    one, other = one.detach(), other.detach()
    largest = float(other.abs().nan_to_num(0.0, 0.0, 0.0).max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=TOLERANCE * max(1.0, largest), equal_nan=True)


def _candidates(result: Any) -> list[Any]:
    """The parts of a result without a given state that may be the state, the likeliest first."""
    if not isinstance(result, tuple):
        return [result]
    return [result, *result[-1:], result[1:], *result[:-1]]


def _attributes(module: nn.Module, names: Sequence[str]) -> list[int]:
    found = [getattr(module, name, None) for name in names]
    return [value for value in found if type(value) is int and value > 0]


def _given(size: int | None) -> list[int]:
    return [] if size is None else [size]


def _first(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(sizes))[:MAX_WIDTHS]
