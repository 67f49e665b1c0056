"""A user's own step ``(state, x) -> new state`` as a function of flat rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from rnndiag.errors import ModelError, RnndiagError, describe_error

Step = Callable[[Any, Tensor], Any]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A state of one or several tensors, as the user gave it."""

    parts: tuple[Tensor, ...]
    """Each ``[S_i]`` or ``[B, S_i]``."""
    structure: pytree.TreeSpec

    @classmethod
    def of(cls, given: object, name: str) -> State:
        """Take a tensor, or a tuple, list or dict of them, apart.

        Raises:
            ModelError: for anything that is not a vector, or one for each sequence, of floating-point numbers.
        """
        with_paths, structure = pytree.tree_flatten_with_path(given)
        if not with_paths:
            raise ModelError(f"{name}: state0 holds no tensor; expected one [S] or [B, S], or a tuple or dict of them")
        parts = []
        for path, leaf in with_paths:
            place = f"{name}: state0{pytree.keystr(path)}"
            if not isinstance(leaf, Tensor | np.ndarray):
                raise ModelError(f"{place}: expected a tensor [S] or [B, S], got {type(leaf).__name__}")
            part = torch.as_tensor(leaf).detach()
            if part.ndim not in (1, 2) or 0 in part.shape:
                raise ModelError(
                    f"{place}: expected a tensor [S] or [B, S], got shape {list(part.shape)}; flatten it, and give it "
                    "its shape again in the step"
                )
            if not part.dtype.is_floating_point:
                raise ModelError(f"{place}: expected floating-point numbers, got {part.dtype}; call .float() on it")
            if not bool(part.isfinite().all()):
                raise ModelError(f"{place}: expected finite numbers, got NaN or infinity among them")
            parts.append(part)
        batches = sorted({len(part) for part in parts if part.ndim == 2} - {1})
        if len(batches) > 1:
            raise ModelError(f"{name}: state0: expected one number of sequences, got {batches}")
        return cls(tuple(parts), structure)

    @property
    def batch(self) -> int:
        """Sequences that it is given for; 1: for any number."""
        return max([len(part) for part in self.parts if part.ndim == 2], default=1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """``S_i`` of each part."""
        return tuple(int(part.shape[-1]) for part in self.parts)

    @property
    def dtype(self) -> torch.dtype:
        """In which it was given; of several, that which holds them all."""
        found = self.parts[0].dtype
        for part in self.parts[1:]:
            found = torch.promote_types(found, part.dtype)
        return found

    def rows(self, batch: int, like: Tensor) -> Tensor:
        """``[B, S]``: the parts side by side, for ``batch`` sequences, in the dtype and on the device of ``like``."""
        return torch.cat([part.to(like).expand(batch, -1) for part in self.parts], dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class StepFunction:
    """``[N, S], [N, D] -> [N, S]``: calls the user's step with a state of the structure that it expects."""

    name: str
    step: Step
    structure: pytree.TreeSpec
    sizes: tuple[int, ...]
    single: bool = False
    """Whether it takes one state and one input, without a batch axis."""

    def __call__(self, states: Tensor, inputs: Tensor) -> Tensor:
        """The new states of some rows, each from its own state and input.

        Raises:
            ModelError: where the step raises, or returns anything but a state of the shape that it was given.
        """
        return torch.cat(self.on_parts(states.split(self.sizes, dim=-1), inputs), dim=-1)

    def on_parts(self, parts: Sequence[Tensor], inputs: Tensor) -> list[Tensor]:
        """The same for a state in its parts, ``[N, S_i]`` each."""
        # Copies, so that a step that works in place changes neither the caller's rows nor a leaf of a graph.
        own = [part.clone() for part in parts]
        step = torch.func.vmap(self.step) if self.single else self.step
        try:
            with differentiable():
                new = step(pytree.tree_unflatten(own, self.structure), inputs.clone())
        except RnndiagError:
            raise
        except Exception as error:
            raise ModelError(f"{self.name}: {describe_error(error)}") from error
        return self.check(new, parts)

    def check(self, new: object, parts: Sequence[Tensor]) -> list[Tensor]:
        """The parts of a new state, if it is like the old one.

        Raises:
            ModelError: naming the first difference.
        """
        old = pytree.tree_unflatten(list(parts), self.structure)
        if isinstance(new, dict) and isinstance(old, dict) and new.keys() == old.keys():
            new = {key: new[key] for key in old}  # the order of the keys is not part of a dict's meaning
        with_paths, structure = pytree.tree_flatten_with_path(new)
        if structure != self.structure:
            raise ModelError(
                f"{self.name}: expected the new state alone, {_described(old)} like state0, got {_described(new)}"
            )
        for (path, leaf), part in zip(with_paths, parts, strict=True):
            got = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            shape = list(leaf.shape) if isinstance(leaf, Tensor) else []
            if (got, shape) != (part.dtype, list(part.shape)):
                raise ModelError(
                    f"{self.name}: expected a new state{pytree.keystr(path)} of shape {list(part.shape)} and "
                    f"{part.dtype} like the old one, got {f'shape {shape} and ' if shape else ''}{got}"
                )
        return [leaf for _, leaf in with_paths]


@contextmanager
def differentiable() -> Iterator[None]:
    """What lets a step be differentiated in any mode, and twice.

    A step may take a gradient itself, of an energy for example; fused attention and compiled code have a first
    derivative in reverse mode at most.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):  # nothing is compiled without it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def name_of(step: object) -> str:
    """What to call a step: the name of the function, or of the object's class."""
    while hasattr(step, "func"):  # functools.partial
        step = step.func
    named = getattr(step, "__qualname__", None) or type(step).__qualname__
    return str(named).rpartition("<locals>.")[2].replace("<lambda>", "step")


def _described(tree: object) -> str:
    if isinstance(tree, Tensor):
        return f"a tensor {list(tree.shape)}"
    if isinstance(tree, dict):
        return "a dict of {" + ", ".join(f"{key!r}: {_described(each)}" for key, each in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        return f"a {type(tree).__name__} of ({', '.join(map(_described, tree))})"
    return "None" if tree is None else f"a {type(tree).__name__}"
