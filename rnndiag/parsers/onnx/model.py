"""ONNX models: the operators RNN, GRU and LSTM, with the weights that they are given."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from rnndiag.errors import UnfitError
from rnndiag.files.text import listing
from rnndiag.parsers.onnx import operators, quantized, stacks
from rnndiag.parsers.onnx.constants import Budget, Values
from rnndiag.parsers.onnx.decomposed import ADVICE, written_out
from rnndiag.parsers.onnx.graph import Graphs
from rnndiag.parsers.onnx.names import name_of, scope_of
from rnndiag.parsers.onnx.quantized import is_quantized
from rnndiag.parsers.onnx.stacks import Operator
from rnndiag.parsers.onnx.tensors import Tensors
from rnndiag.parsers.onnx.types import NONE, as_held
from rnndiag.parsers.parsed import BFLOAT16, OP_TYPE, Parsed, RefusedError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sized
    from pathlib import Path

    from rnndiag.parsers.onnx.constants import Constant
    from rnndiag.parsers.onnx.graph import Site
    from rnndiag.parsers.onnx.operators import Layer
    from rnndiag.parsers.onnx.types import Types

MAX_OPERATORS: Final = 5000
"""Recurrent operators that are looked at; an unrolled model repeats one some hundred times."""
MAX_LISTED: Final = 20
"""Cells written out that are named one by one."""

_W, _R, _B, _P = 1, 2, 3, 7  # inputs of an operator, the last of an LSTM only
_INITIAL = slice(5, 7)
_PRODUCERS = {"pytorch": "PyTorch", "keras2onnx": "Keras", "tf2onnx": "TensorFlow"}
"""The framework whose models a program exports, by the name that the program leaves in the file."""


def parse(path: Path) -> Parsed:
    """Read every recurrent operator of a model whose weights are in the file or beside it.

    Args:
        path: the model.

    Raises:
        RefusedError: there is none.
    """
    # By the content alone: the name might ask for another of the library's formats.
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        if "alloc" in str(error):
            raise MemoryError from None
        raise RefusedError("an ONNX model that is damaged or cut short: copy it again") from None
    if not model.HasField("graph"):
        raise RefusedError("an ONNX model without a graph, perhaps cut short: copy it again")
    budget = Budget(Tensors(path))
    parsed = _Reading(Graphs(model), budget).parsed
    parsed.framework = _PRODUCERS.get(model.producer_name, "")
    return parsed


class _Reading:
    """One model while it is read."""

    def __init__(self, graphs: Graphs, budget: Budget) -> None:
        self.parsed = Parsed()
        self._graphs = graphs
        self._budget = budget
        self._operators: list[Operator] = []
        self._sources: set[Hashable] = set()
        self._contents: dict[Hashable, Operator] = {}
        self._origins: set[str] = set()
        self._quantised = False
        self._widened = False
        self._names: Counter[str] = Counter()
        for site in graphs.recurrent[:MAX_OPERATORS]:
            self._read(site)
        if len(graphs.recurrent) > MAX_OPERATORS:
            left = len(graphs.recurrent) - MAX_OPERATORS
            self._skip(f"{left} more operators", f"the model has more than {MAX_OPERATORS}")
        for chain in stacks.chains(self._operators, budget):
            self._hand_over(chain)
        self._name_the_others()
        self._note()
        if not self.parsed.tensors:
            raise RefusedError(self._nothing())

    def _read(self, site: Site) -> None:
        # One layer may stand in both branches of an If, or again at every step of an unrolled loop.
        place = _sources(site)
        if place in self._sources:
            return
        try:
            layer, origins = self._layer(site)
        except UnfitError as unfit:
            self._skip(name_of(site, ()).path or site.node.op_type, str(unfit))
            return
        self._origins |= origins
        self._sources.add(place)
        operator = Operator(site, layer, name_of(site, origins))
        first = self._contents.setdefault(_digest(layer), operator)
        if first is operator:
            self._operators.append(operator)
        elif site.scope is first.site.scope and operator.name != first.name:
            # The weights are measured under the other name.
            reason = f"its weights are those of {first.name.path or 'the top level'}"
            self._skip(operator.name.path, reason, measured=True)

    def _layer(self, site: Site) -> tuple[Layer, frozenset[str]]:
        values = Values(self._budget)
        W, R, B, P = (self._constant(values, site, index) for index in (_W, _R, _B, _P))
        if W is None or R is None:
            raise UnfitError("its weights are missing: expected the inputs X, W and R")
        kind = site.node.op_type
        if is_quantized(site.node):
            kind = "LSTM"
            W, R = (self._restored(values, site, index, weight) for index, weight in ((_W, W), (_R, R)))
        arrays = (W.array, R.array, B.array if B else None, P.array if P else None)
        layer = operators.layer_of(kind, site.scope.attributes(site.node), arrays)
        self._check_initial_states(site, layer.hidden_size)
        biases = B.held if B else NONE
        held = {"ih": W.held, "hh": R.held, "bias": biases}
        self._quantised |= (W.quantised or R.quantised) and not is_quantized(site.node)
        return replace(layer, types=held), W.origins | R.origins | (B.origins if B else frozenset())

    def _restored(self, values: Values, site: Site, index: int, weight: Constant) -> Constant:
        """A weight of a quantized LSTM as that of an LSTM."""
        scale, zero_point = (self._constant(values, site, each) for each in quantized.SCALES[index])
        if scale is None or zero_point is None:
            raise UnfitError("its scales or zero points are missing")
        array = quantized.restored("W" if index == _W else "R", weight.array, scale.array, zero_point.array)
        self._budget.spend(array.nbytes)
        return replace(weight, array=array, quantised=True)

    def _check_initial_states(self, site: Site, hidden: int) -> None:
        """Refuse an operator of which torch.onnx made nonsense: it drops the projection and half the gates."""
        for name in site.node.input[_INITIAL]:
            try:
                state = Values(self._budget, extent=(3, 2)).of(site.scope, name).array
            except UnfitError:  # an input of the model, as it should be
                continue
            if state.shape[-1:] != (hidden,):
                raise UnfitError(
                    f"its initial state is {list(state.shape)} and its weights have {hidden} hidden units; so"
                    " torch.onnx.export writes an LSTM with proj_size: save the state_dict instead"
                )

    @staticmethod
    def _constant(values: Values, site: Site, index: int) -> Constant | None:
        name = site.node.input[index] if index < len(site.node.input) else ""
        return values.of(site.scope, name) if name and site.node.input[0] else None

    def _hand_over(self, chain: list[Operator]) -> None:
        lowest = chain[0]
        name = self._unique(lowest.name.path)
        prefix = f"{name}." if name else ""
        for level, operator in enumerate(chain):
            for reverse, stored in enumerate(operator.layer.directions):
                suffix = f"_l{level}" + "_reverse" * reverse
                for role, array in stored.items():
                    self.parsed.tensors[f"{prefix}{role}{suffix}"] = self._as_held(
                        array, operator.layer.types.get(role, NONE)
                    )
        self.parsed.conventions[name] = lowest.layer.convention
        self.parsed.settings[name] = [
            {**each.site.scope.attributes(each.site.node), OP_TYPE: each.site.node.op_type} for each in chain
        ]
        if len(chain) > 1 and not all(operator.name.is_module for operator in chain):
            names = ", ".join(operator.name.path for operator in chain[:8])
            self.parsed.notes.append(
                f"each of {names} reads the one before, so they were taken as levels of one module"
            )
        self._embedding(lowest, prefix)

    def _as_held(self, array: np.ndarray, types: Types) -> np.ndarray:
        narrow = as_held(array, types)
        self._widened |= BFLOAT16 in types and narrow.dtype != BFLOAT16
        return narrow

    def _embedding(self, operator: Operator, prefix: str) -> None:
        name = f"{prefix}embedding"
        try:
            found = stacks.table(operator, self._budget)
        except UnfitError as unfit:
            self.parsed.skipped.append((name, f"an embedding, but {unfit}", False))
            return
        if found:
            stored_as, constant = found
            self.parsed.tensors[f"{name}.weight"] = self._as_held(constant.array, constant.held)
            if stored_as != f"{name}.weight":
                self.parsed.notes.append(f"{name} is what the model calls {stored_as[:200]}")

    def _name_the_others(self) -> None:
        foreign: dict[str, str] = {}
        for site in self._graphs.foreign[:MAX_OPERATORS]:
            kind = f"{site.node.domain}.{site.node.op_type}".removeprefix(".")[:100]
            foreign.setdefault(scope_of(site.node.name) or site.node.name or kind, kind)
        for name, kind in list(foreign.items())[:MAX_LISTED]:
            self._skip(name, f"{kind} is none of the operators RNN, GRU, LSTM and DynamicQuantizeLSTM: use the model"
                             " from before it was optimised or quantised")  # fmt: skip
        found = written_out(self._graphs, frozenset(self._origins))
        for name, sign in list(found.items())[:MAX_LISTED]:
            self._skip(name, f"it seems to be written out as elementary operators ({sign}): {ADVICE}")
        if len(found) > MAX_LISTED:
            self._skip(f"{len(found) - MAX_LISTED} more", "they seem to be written out as elementary operators")

    def _note(self) -> None:
        kinds = dict.fromkeys(operator.layer.kind for operator in self._operators)
        self.parsed.notes[:0] = [operators.NOTES[kind] for kind in kinds if kind in operators.NOTES]
        if self._widened:
            self.parsed.notes.append("bfloat16 weights were widened to float32, which holds the same numbers")
        dynamic = [each.name.path for each in self._operators if is_quantized(each.site.node)]
        if dynamic:
            self.parsed.notes.append(quantized.NOTE.format(listing(dynamic)))
        if self._quantised:
            self.parsed.notes.append("quantised weights were taken as the model's DequantizeLinear restores them")

    def _skip(self, name: str, reason: str, *, measured: bool = False) -> None:
        self.parsed.skipped.append((name, f"recurrent, but {reason}", not measured))

    def _unique(self, path: str) -> str:
        name = path
        while name in self.parsed.conventions:
            self._names[path] += 1
            name = f"{path}#{self._names[path] + 1}"
        return name

    def _nothing(self) -> str:
        expected = "no recurrent layer that can be measured: expected an operator RNN, GRU or LSTM"
        skipped = self.parsed.skipped
        if skipped:
            by_reason: dict[str, list[str]] = {}
            for name, reason, _ in skipped:
                by_reason.setdefault(reason, []).append(name)
            saw = [f"{', '.join(names[:3])}{_more(names, 3)} ({reason})" for reason, names in by_reason.items()]
            return f"{expected}, saw {'; '.join(saw[:3])}{_more(saw, 3)}"
        kinds = [kind[:40] for kind, _ in self._graphs.kinds.most_common(6)]
        return f"{expected}, saw {', '.join(kinds) or 'no operators at all'}{_more(self._graphs.kinds, 6)}"


def _more(items: Sized, shown: int) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""


def _sources(site: Site) -> Hashable:
    """Equal for operators that read the same values with the same settings."""
    node, scope = site.node, site.scope
    names = [node.input[i] if i < len(node.input) else "" for i in (_W, _R, _B, *range(_P, _P + 5))]
    settings = tuple(sorted(each.SerializeToString(deterministic=True) for each in node.attribute))
    return node.op_type, tuple(scope.locate(name) if name else None for name in names), settings


def _digest(layer: Layer) -> Hashable:
    """Equal for layers with the same numbers."""
    digest = hashlib.sha256()
    shapes: list[Any] = []
    for stored in layer.directions:
        for role, array in stored.items():
            shapes.append((role, array.shape, str(array.dtype)))
            digest.update(array.reshape(-1).view(np.uint8).data)
    return layer.convention, tuple(shapes), digest.digest()
