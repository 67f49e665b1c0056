"""The weights of quantised recurrent modules, which torch.ao packs into objects of its own, by PyTorch's names.

``torch.ao.nn.quantized.dynamic``: an LSTM or GRU has ``_all_weight_values.N.param`` for each level and direction, a
cell ``_packed_weight_ih`` and ``_packed_weight_hh``. Biases are packed with the weights, and those are the ones used.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from rnndiag.checkpoint.contents import Leaf, StoredTensor, Unusable
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

LINEAR: Final = "__torch__.torch.classes.quantized.LinearPackedParamsBase"
CELL: Final = "__torch__.torch.classes.rnn.CellParamsBase"

_LAYERED: Final = re.compile(r"(.*\.)?_all_weight_values\.(0|[1-9][0-9]{0,3})\.param", re.DOTALL)
_STEP: Final = re.compile(r"(.*\.)?_packed_weight_(ih|hh)", re.DOTALL)

_Parameters: TypeAlias = dict[str, Leaf]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """An object of one of the two classes, and its state."""

    kind: str
    state: tuple[object, ...]


def packed(value: object) -> Packed | None:
    """The packed parameters that a stand-in stands for; None for anything else."""
    if not isinstance(value, StandIn) or not isinstance(value.state, tuple):
        return None
    if value.path == "torch.ScriptObject" and len(value.state) == 2:  # in a pickle of Python's
        state, kind = value.state
        return Packed(kind, state) if isinstance(state, tuple) and kind in (LINEAR, CELL) else None
    return Packed(value.path, value.state) if value.path in (LINEAR, CELL) else None


def unpacked(tensors: Mapping[str, Leaf | Packed], two_way: Mapping[str, bool]) -> _Parameters:
    """The tensors of a container, what was packed by PyTorch's names in its place.

    Args:
        tensors: by dotted name.
        two_way: whether a module reads in both directions, by its path, where the file says so.
    """
    cells: defaultdict[str, dict[int, _Parameters]] = defaultdict(dict)
    for name, leaf in tensors.items():
        if isinstance(leaf, Packed) and leaf.kind == CELL and (match := _LAYERED.fullmatch(name)):
            cells[match[1] or ""][int(match[2])] = _cell(leaf)
    result: _Parameters = {}
    for name, leaf in tensors.items():
        if not isinstance(leaf, Packed):
            result.setdefault(name, leaf)
        elif leaf.kind == LINEAR and (match := _STEP.fullmatch(name)):
            result |= _under(match[1], _linear(leaf, match[2]))
        elif leaf.kind == CELL and (match := _LAYERED.fullmatch(name)):
            stack = cells.pop(match[1] or "", None)  # the whole of it, where its first part is
            result |= _under(match[1], _stack(stack, two_way.get((match[1] or "")[:-1]))) if stack else {}
        else:
            result[name] = Unusable(f"packed as {printable(leaf.kind, 80)}")
    return result


def _under(prefix: str | None, parameters: _Parameters) -> _Parameters:
    return {f"{prefix or ''}{key}": leaf for key, leaf in parameters.items()}


def _linear(leaf: Packed, which: str) -> _Parameters:
    weight, bias = leaf.state if len(leaf.state) == 2 else (None, None)
    found = {f"weight_{which}": weight} | ({} if bias is None else {f"bias_{which}": bias})
    usable = all(isinstance(each, StoredTensor | Unusable) for each in found.values())
    return cast("_Parameters", found) if usable else {f"weight_{which}": Unusable("packed in a way that is not read")}


def _cell(leaf: Packed) -> _Parameters:
    """A level in one direction: a name, tensors, numbers, integers, and the packed matrices for input and state."""
    linears = leaf.state[4] if len(leaf.state) == 5 else None
    if isinstance(linears, list) and len(linears) == 2:
        both = [packed(each) for each in linears]
        if all(each is not None and each.kind == LINEAR for each in both):
            return _linear(cast("Packed", both[0]), "ih") | _linear(cast("Packed", both[1]), "hh")
    return dict.fromkeys(("weight_ih", "weight_hh"), Unusable(f"packed as {printable(str(leaf.state[:1]), 60)}"))


def _stack(cells: dict[int, _Parameters], two_way: bool | None) -> _Parameters:
    ways = _ways(cells) if two_way is None else [1 + two_way]
    if len(ways) == 1:
        return {
            f"{key}_l{number // ways[0]}{'_reverse' * (number % ways[0])}": leaf
            for number, cell in sorted(cells.items())
            for key, leaf in cell.items()
        }
    reason = (
        "two levels or two directions: a quantised state_dict does not tell; save the whole module"
        if ways
        else "its levels do not fit together"
    )
    return dict.fromkeys(("weight_ih_l0", "weight_hh_l0"), Unusable(reason))


def _ways(cells: dict[int, _Parameters]) -> list[int]:
    """In how many directions the cells can be read, by the widths of their inputs and states."""
    widths = [
        tuple(_width(cells.get(number, {}).get(key)) for key in ("weight_ih", "weight_hh"))
        for number in range(len(cells))
    ]
    (first, hidden), *upper = widths
    one = all(inputs == hidden for inputs, _ in upper)
    two = len(cells) % 2 == 0 and upper[0][0] == first and all(inputs == 2 * hidden for inputs, _ in upper[1:])
    return [1] * one + [2] * two if all(map(all, widths)) else []


def _width(leaf: Leaf | None) -> int:
    """Columns of a matrix; 0 for anything else."""
    return leaf.shape[1] if isinstance(leaf, StoredTensor) and len(leaf.shape) == 2 else 0
