"""From the object that a file holds to containers of named tensors.

The walk keeps its own stack and enters each part once, so depth, cycles and sharing cost nothing extra.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, cast

from rnndiag.checkpoint.contents import (
    MAX_NAME_CHARACTERS,
    Container,
    Contents,
    DequantizedTensor,
    KeyPath,
    Leaf,
    ModuleFacts,
    StoredTensor,
    Unusable,
)
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.unpickling.auxiliary import auxiliary
from rnndiag.checkpoint.unpickling.blob import Blob
from rnndiag.checkpoint.unpickling.ndarray import PickledArray, PickledScalar
from rnndiag.checkpoint.unpickling.quantized import Packed, packed, unpacked
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.checkpoint.unpickling.training_step import KEYS, counter
from rnndiag.files.work_budget import current_budget
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rnndiag.checkpoint.contents import Nonlinearity

_Items: TypeAlias = "list[tuple[str, Any]]"

_OPTIMIZER: Final = re.compile(
    r"(?:.*_)?(?:opt|optim|optims|optimizer|optimizers)(?:[_A-Z0-9].*)?"
    r"|(?:max_)?exp_(?:avg|inf)(?:_sq)?s?|momentum_buffers?|square_avg|grad_avg|acc_delta"
)
"""Names under which training keeps optimizer state, some of it by the names of the parameters."""

UNITS_PER_PART: Final = 6
UNITS_PER_TENSOR: Final = 30
"""Units of the work budget to walk through a dict or the like, and to pass a tensor over if it is no layer's."""

DEQUANTIZED_GROWTH: Final = 4
"""How many times larger an integer of a byte becomes."""

SCRIPTED: Final = "__torch__"
"""The package under which TorchScript keeps all classes of an archive."""

_REBUILDERS: Final = ("torch._utils", "torch._tensor", "torch.nn.parameter")
"""Where a stand-in's name comes from if it stands for a tensor: sparse, quantised, meta, uninitialised."""


def facts_of(module: StandIn) -> ModuleFacts:
    """What a module's class and own attributes say of it."""
    state = cast("dict[str, Any]", module.state)
    mode = state.get("mode")  # of nn.RNN; nn.RNNCell has nonlinearity
    stated = mode.removeprefix("RNN_").lower() if isinstance(mode, str) else state.get("nonlinearity")
    return ModuleFacts(module.path, stated if is_nonlinearity(stated) else None)


def walk(
    root: object,
    size: int,
    describe: Callable[[StandIn], ModuleFacts] = facts_of,
    *,
    tensor_counters: bool = True,
    embedded: Callable[[Blob], object] = lambda blob: None,
) -> Contents:
    """All tensors of a file, in the file's order. Optimizer state is skipped whole.

    A pickled module is one container with all its children, and so is an object of another class that holds tensors or
    arrays, or whose attributes do. Any other part that holds tensors directly is one container.

    Args:
        root: the object in the file.
        size: the size of the file in bytes.
        describe: gives the facts about a module or object.
        tensor_counters: whether counters of training steps that are tensors are read now; false where each tensor is in
            a file of its own.
        embedded: gives the object in a file that is stored as a string of bytes; None where the bytes are no such file.
    """
    walker = _Walker(describe, embedded, tensor_counters=tensor_counters)
    walker.run({"tensor": root} if _leaf(root) is not None else root)
    found = Contents(
        size,
        tuple(walker.containers),
        tuple(walker.skipped),
        tuple(walker.statements),
        progress=walker.progress,
        framework="PyTorch",
        auxiliary=auxiliary(root, walker.containers, has_optimizer=walker.has_optimizer),
    )
    if not any(isinstance(leaf, DequantizedTensor) for each in walker.containers for leaf in each.tensors.values()):
        return found
    note = "quantised weights were dequantised; what the model rounds of its activations as it runs was not"
    return replace(found, size=size * DEQUANTIZED_GROWTH, notes=(note,))


class _Walker:
    def __init__(
        self,
        describe: Callable[[StandIn], ModuleFacts],
        embedded: Callable[[Blob], object],
        *,
        tensor_counters: bool,
    ) -> None:
        self._describe = describe
        self._embedded = embedded
        self._tensor_counters = tensor_counters
        self._budget = current_budget()
        self.containers: list[Container] = []
        self.skipped: list[Skipped] = []
        self.statements: list[tuple[str, Nonlinearity]] = []
        self.progress: dict[str, int] = {}
        self._entered: set[int] = set()
        self._todo: list[tuple[KeyPath, object]] = []
        self._optimizers: list[tuple[KeyPath, object]] = []
        self._in_optimizer = False
        self.has_optimizer = False

    def run(self, root: object) -> None:
        (self._optimizers if is_optimizer(root) else self._todo).append((KeyPath(), root))
        self._drain()
        self._in_optimizer = True
        # Last, so that a module which its optimizer refers to is met in its own place.
        for path, part in self._optimizers:
            found, stated = len(self.containers), len(self.statements)
            self._todo.append((path, part))
            self._drain()
            if len(self.containers) > found:
                self._skip(path, "optimizer state")
            # An optimizer that has made no update yet holds no tensors.
            self.has_optimizer |= len(self.containers) > found or is_optimizer(part)
            del self.containers[found:], self.statements[stated:]

    def _drain(self) -> None:
        while self._todo:
            path, part = self._todo.pop()
            if path.length > MAX_NAME_CHARACTERS:
                self._skip(path, "nested too deep to be followed")
            elif isinstance(part, StandIn) and self._first_visit(part):
                self._stand_in(path, part)
            elif isinstance(part, dict) and self._first_visit(part):
                self._entries(path, part.items())
            elif isinstance(part, list | tuple) and self._first_visit(part):
                self._entries(path, ((str(i), each) for i, each in enumerate(part) if not _is_number(each)))
            elif isinstance(part, Blob) and self._first_visit(part):
                self._todo.append((path, self._embedded(part)))

    def _entries(self, path: KeyPath, entries: Iterable[tuple[str, object]]) -> None:
        tensors: dict[str, Leaf | Packed] = {}
        parts: list[tuple[KeyPath, object]] = []
        for key, value in entries:
            self._count(path, key, value)
            leaf = _leaf(value)
            if leaf is not None:
                tensors[key] = leaf
                self._budget.spend(UNITS_PER_TENSOR)
            elif _holds(value):
                self._budget.spend(UNITS_PER_PART)
                place = path.child(key)
                later = is_optimizer(value, key) and not self._in_optimizer
                (self._optimizers if later else parts).append((place, value))
            elif key == "nonlinearity" and is_nonlinearity(value):
                self.statements.append((_shown(path.child(key)), value))
        if tensors:
            self.containers.append(Container(path, unpacked(tensors, {})))
        self._todo += reversed(parts)

    def _count(self, path: KeyPath, key: str, value: object) -> None:
        if key not in KEYS or self._in_optimizer or (isinstance(value, StoredTensor) and not self._tensor_counters):
            return
        count = counter(path, value.leaf if isinstance(value, PickledScalar) else value)
        if count is not None:
            self.progress.setdefault(key, count)  # the top of the file comes first

    def _stand_in(self, path: KeyPath, part: StandIn) -> None:
        if _is_module(part):
            self._module(path, part)
        elif _is_object(part):
            self._object(path, part)
        else:
            # Attributes, slots, items and elements are all found under the object's own path.
            state = part.state if isinstance(part.state, tuple) else (part.state,)
            held = [each for each in (*state[:2], part.args, part.items, part.elements) if _holds(each)]
            self._budget.spend(UNITS_PER_PART * len(held))
            self._todo += [(path, each) for each in reversed(held)]

    def _object(self, path: KeyPath, root: StandIn) -> None:
        """An object that is not a module of PyTorch's: one container, with the objects that are its attributes."""
        tensors: dict[str, Leaf | Packed] = {}
        facts: dict[str, ModuleFacts] = {}
        todo = [("", root)]
        while todo:
            name, part = todo.pop()
            state = cast("dict[str, Any]", part.state)
            if len(name) > MAX_NAME_CHARACTERS or not self._first_visit(state):
                continue
            self._entered.add(id(part))
            leaves = {key: leaf for key, value in state.items() if (leaf := _leaf(value)) is not None}
            within = [(k, v) for k, v in state.items() if k not in leaves and _is_object(v) and not is_optimizer(v, k)]
            self._budget.spend(UNITS_PER_TENSOR * len(leaves) + UNITS_PER_PART * (1 + len(within)))
            tensors |= {_join(name, key): leaf for key, leaf in leaves.items()}
            here = path.child(name) if name else path
            for key, leaf in leaves.items():
                self._count(here, key, leaf)
            facts[name] = self._describe(part)
            todo += [(_join(name, key), value) for key, value in reversed(within)]
            left_out = {*leaves, *(key for key, _ in within)}
            self._entries(here, [(key, value) for key, value in state.items() if key not in left_out])
            self._todo += [(here, each) for each in (part.elements, part.items, part.args) if _holds(each)]
        if tensors:
            self.containers.append(Container(path, unpacked(tensors, {}), facts))

    def _module(self, path: KeyPath, root: StandIn) -> None:
        tensors: dict[str, Leaf | Packed] = {}
        facts: dict[str, ModuleFacts] = {}
        two_way: dict[str, bool] = {}
        todo = [("", root)]
        while todo:
            name, module = todo.pop()
            state = cast("dict[str, Any]", module.state)
            if not self._first_visit(state) or len(name) > MAX_NAME_CHARACTERS:
                continue
            facts[name] = self._describe(module)
            if isinstance(state.get("bidirectional"), bool):
                two_way[name] = state["bidirectional"]
            scripted = module.module.startswith(SCRIPTED)
            values, modules, own = _by_kind(state) if scripted else self._by_table(state)
            self._budget.spend(UNITS_PER_TENSOR * len(values) + UNITS_PER_PART * len(modules))
            for key, value in values:
                leaf = _leaf(value)
                if leaf is not None:
                    tensors[_join(name, key)] = leaf
            todo += [(_join(name, key), value) for key, value in reversed(modules) if _is_module(value)]
            self._entries(path.child(name) if name else path, own)
        if tensors:
            self.containers.append(Container(path, unpacked(tensors, two_way), facts))

    def _by_table(self, state: dict[str, Any]) -> tuple[_Items, _Items, _Items]:
        """The tensors, children and own attributes of a pickled module."""

        def table(key: str) -> _Items:
            found = state.get(key)
            return list(found.items()) if isinstance(found, dict) and self._first_visit(found) else []

        quantised = [(key, value) for key, value in state.items() if packed(value)]
        # Beside packed weights, biases of the same names are never used.
        left_out = ("bias_ih", "bias_hh") if quantised else ()
        own = [(k, v) for k, v in state.items() if not (k.startswith("_") or k in left_out or packed(v))]
        return [*table("_parameters"), *table("_buffers"), *quantised], table("_modules"), own

    def _first_visit(self, part: object) -> bool:
        # Ids are safe here: the root keeps every part alive.
        fresh = id(part) not in self._entered
        self._entered.add(id(part))
        return fresh

    def _skip(self, path: KeyPath, reason: str) -> None:
        self.skipped.append(Skipped(_shown(path), reason))


def _leaf(value: object) -> Leaf | Packed | None:
    if isinstance(value, StoredTensor | Unusable):
        return value
    if isinstance(value, PickledArray):
        return value.leaf
    if (weights := packed(value)) is not None:
        return weights
    if isinstance(value, StandIn) and value.module in _REBUILDERS:
        return Unusable(f"it takes {printable(value.path, 100)} to rebuild")
    return None


def _holds(value: object) -> bool:
    """Whether there is something in ``value`` to be entered."""
    if isinstance(value, StandIn):
        return value.state is not None or bool(value.args or value.items or value.elements)
    return isinstance(value, Blob) or (isinstance(value, dict | list | tuple) and bool(value))


def _is_number(value: object) -> bool:
    """Whether it is a single number of a list, such as a loss: not a parameter of a layer."""
    return isinstance(value, PickledScalar) or (isinstance(value, StoredTensor) and value.shape == ())


def _is_object(part: object) -> TypeGuard[StandIn]:
    """Whether it is an object with attributes that is neither a module nor an array."""
    return (
        isinstance(part, StandIn)
        and isinstance(part.state, dict)
        and not isinstance(part, PickledArray)
        and not _is_module(part)
        and packed(part) is None
    )


def is_optimizer(part: object, key: str = "") -> bool:
    """Whether a part of a file is optimizer state, by its content or by the name that it has there."""
    if len(key) <= 64 and _OPTIMIZER.fullmatch(key):  # the pattern may take quadratic time
        return True
    state = part.state if isinstance(part, StandIn) else part
    return isinstance(state, dict) and "param_groups" in state and "state" in state


def _is_module(part: object) -> bool:
    if not isinstance(part, StandIn) or not isinstance(part.state, dict):
        return False
    if part.module.startswith(SCRIPTED):
        return True
    return isinstance(part.state.get("_parameters"), dict) and isinstance(part.state.get("_modules"), dict)


def _by_kind(state: dict[str, Any]) -> tuple[_Items, _Items, _Items]:
    """The same of a TorchScript module, which keeps all in one dict."""
    modules = [(key, value) for key, value in state.items() if _is_module(value)]
    values = [(key, value) for key, value in state.items() if _leaf(value) is not None]
    found = {key for key, _ in (*modules, *values)}
    return values, modules, [(k, v) for k, v in state.items() if k not in found and not k.startswith("_")]


def is_nonlinearity(value: object) -> TypeGuard[Nonlinearity]:
    """Whether ``value`` is the name of one."""
    return isinstance(value, str) and value in ("tanh", "relu")


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _shown(path: KeyPath) -> str:
    return printable(".".join(path.parts)) or "(top level)"
