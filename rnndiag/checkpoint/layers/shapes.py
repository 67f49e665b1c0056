"""One module's parameters, by their names and shapes alone: which cell, which levels, or why neither."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import torch
from torch import Tensor

from rnndiag.checkpoint.contents import Leaf, Unusable, value_of
from rnndiag.errors import UnfitError
from rnndiag.files.text import shape_of
from rnndiag.kinds import FAMILIES, extra_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

PARAMETER: Final = re.compile(
    r"(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(?P<level>0|[1-9][0-9]{0,2})(?P<reverse>_reverse)?)?"
)
"""``weight_hh`` of a cell, ``weight_hh_l0`` and ``weight_hh_l0_reverse`` of nn.RNN, nn.LSTM and nn.GRU."""

GATES_OF: Final = {len(family.letters): family.name for family in FAMILIES.values()}
"""The family of cells with so many gate blocks: ``rnn``, ``gru`` or ``lstm``."""

_EXTRA: Final = re.compile(r"(?P<kind>[a-z_]+?)(?P<suffix>(?:_l(?:0|[1-9][0-9]{0,2})(?:_reverse)?)?)")
"""The name of an extra parameter, with the same suffixes."""

DTYPES: Final = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

Slot: TypeAlias = "dict[str, Tensor]"
"""The parameters of one level in one direction, by kind."""


class SharedError(UnfitError):
    """The parameters belong to another module, which is already measured."""


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentModule:
    """The parameters of one recurrent module, their shapes verified against each other."""

    kind: str
    """``rnn``, ``gru`` or ``lstm``"""
    levels: tuple[tuple[Slot, ...], ...]
    """By level, forward before reverse, as in ``Stack``."""
    is_cell: bool
    """An ``nn.*Cell`` rather than an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All parameters, level by level."""
        return tuple(tensor for level in self.levels for slot in level for tensor in slot.values())

    @property
    def hidden_size(self) -> int:
        """``H`` of the lowest level."""
        return int(self.levels[0][0]["weight_hh"].shape[0]) // len(FAMILIES[self.kind].letters)

    @property
    def input_size(self) -> int:
        """Inputs of the lowest level."""
        return int(self.levels[0][0]["weight_ih"].shape[1])


def read_module(parameters: Mapping[str, Leaf], extra: Mapping[str, Leaf] | None = None) -> RecurrentModule:
    """Put the parameters of one module together, given by their own names (``weight_hh_l0``).

    Args:
        parameters: what PyTorch's modules have.
        extra: what they do not have, such as peephole weights, with the same suffixes.

    Raises:
        UnfitError: they are not those of one recurrent module: what was expected, what was found.
    """
    slots: defaultdict[tuple[str, bool], Slot] = defaultdict(dict)
    for name, leaf in parameters.items():
        match = PARAMETER.fullmatch(name)
        if match:
            slots[match["level"] or "", bool(match["reverse"])][match["kind"]] = _usable(name, leaf)
    is_cell = ("", False) in slots
    if is_cell and len(slots) > 1:
        raise UnfitError("parameters of a cell (weight_hh) and of a layered module (weight_hh_l0) in one module")
    depth, directions = _extent({level for level, _ in slots}, {reverse for _, reverse in slots})
    levels = tuple(
        tuple(slots.get(("" if is_cell else str(i), reverse), {}) for reverse in directions) for i in range(depth)
    )
    gates, hidden, output = _sizes(levels[0][0], "" if is_cell else "_l0")
    for i, level in enumerate(levels):
        for slot, reverse in zip(level, directions, strict=True):
            suffix = "" if is_cell else f"_l{i}" + "_reverse" * reverse
            inputs = output * len(directions) if i else _input_size(levels[0][0], suffix)
            _verify(slot, suffix, gates * hidden, hidden, output, inputs)
            slot |= _extra(extra or {}, suffix, gates, hidden)
    return RecurrentModule(GATES_OF[gates], levels, is_cell)


def _extra(leaves: Mapping[str, Leaf], suffix: str, gates: int, hidden: int) -> Slot:
    """The extra parameters of one level and direction."""
    found: Slot = {}
    for name, leaf in leaves.items():
        match = _EXTRA.fullmatch(name)
        if match is None or match["suffix"] != suffix:
            continue
        value, sizes = _usable(name, leaf), extra_sizes(match["kind"], gates, hidden)
        if value.numel() not in sizes:
            expected = " or ".join(map(str, sizes))
            raise UnfitError(f"{name}: expected {expected} numbers, got shape {shape_of(value.shape)}")
        found[match["kind"]] = value.reshape(-1)
    return found


def _usable(name: str, leaf: Leaf) -> Tensor:
    value = value_of(leaf)
    if isinstance(value, Unusable):
        raise UnfitError(f"{name}: {value.reason}")
    if value.dtype not in DTYPES or value.layout != torch.strided:
        raise UnfitError(f"{name}: expected float16, bfloat16, float32 or float64, got {value.dtype}")
    return value


def _extent(levels: set[str], directions: set[bool]) -> tuple[int, tuple[bool, ...]]:
    """How many levels, and which directions each must have."""
    numbers = sorted(int(level or 0) for level in levels)
    if numbers != list(range(len(numbers))):
        raise UnfitError(f"expected levels from l0 without gaps, got {', '.join(f'l{n}' for n in numbers)}")
    return len(numbers), (False, True) if True in directions else (False,)


def _sizes(slot: Slot, suffix: str) -> tuple[int, int, int]:
    """Gate blocks, hidden units and outputs, as the lowest level has them."""
    weight, projection = _matrix(slot, "weight_hh", suffix), slot.get("weight_hr")
    rows, output = weight.shape
    hidden = output
    if projection is not None:
        output, hidden = _matrix(slot, "weight_hr", suffix).shape
    if not _input_size(slot, suffix):
        raise UnfitError(f"weight_ih{suffix} {shape_of(_matrix(slot, 'weight_ih', suffix).shape)}: it has no inputs")
    if not hidden or not output:
        raise UnfitError(f"weight_hh{suffix} {shape_of(weight.shape)}: it has no hidden units")
    gates = rows // hidden
    if rows % hidden or gates not in GATES_OF or (projection is not None and gates != 4):
        multiples = "4" if projection is not None else "1, 3 or 4"
        raise UnfitError(f"weight_hh{suffix}: expected {multiples} times {hidden} rows, got {shape_of(weight.shape)}")
    return gates, hidden, output


def _input_size(slot: Slot, suffix: str) -> int:
    return int(_matrix(slot, "weight_ih", suffix).shape[1])


def _matrix(slot: Slot, kind: str, suffix: str) -> Tensor:
    tensor = slot.get(kind)
    if tensor is None:
        raise UnfitError(
            f"{kind}{suffix} is missing{_beside(slot)}; if it is parametrised (weight_norm and the like),"
            " remove that before saving"
        )
    if tensor.ndim != 2:
        raise UnfitError(f"{kind}{suffix}: expected a matrix, got shape {shape_of(tensor.shape)}")
    return tensor


def _verify(slot: Slot, suffix: str, rows: int, hidden: int, output: int, inputs: int) -> None:
    expected: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, output)}
    if {"bias_ih", "bias_hh"} & slot.keys():
        expected |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if output != hidden or "weight_hr" in slot:
        expected |= {"weight_hr": (output, hidden)}
    for kind, shape in expected.items():
        if len(shape) == 2:
            _matrix(slot, kind, suffix)
        if kind not in slot:
            raise UnfitError(f"{kind}{suffix} is missing{_beside(slot)}")
        if tuple(slot[kind].shape) != shape:
            raise UnfitError(f"{kind}{suffix}: expected {shape_of(shape)}, got {shape_of(slot[kind].shape)}")


def _beside(slot: Slot) -> str:
    return f" beside {', '.join(sorted(slot))}" if slot else ""
