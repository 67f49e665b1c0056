"""What is constant in an ONNX model: stored tensors, and what rearranges them, within bounds of work and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from onnx import TensorProto

from rnndiag.errors import UnfitError
from rnndiag.parsers.onnx.graph import STANDARD, Ref
from rnndiag.parsers.onnx.ops import OPERATIONS, size_of_result
from rnndiag.parsers.onnx.tensors import element_type
from rnndiag.parsers.onnx.types import NONE, types_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import NodeProto

    from rnndiag.parsers.onnx.graph import Scope
    from rnndiag.parsers.onnx.tensors import Tensors
    from rnndiag.parsers.onnx.types import Types

MAX_DEPTH: Final = 100
"""Operators between a stored tensor and its use; writers put about ten."""
MAX_STEPS: Final = 100_000
"""Values looked up for one file."""
WORK: Final = 32
"""Bytes computed for each byte that the file holds."""
SMALL: Final = 1 << 20
"""Numbers that any constant may have, and bytes that may be computed, whatever the file's size."""


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that does not depend on the model's inputs."""

    array: np.ndarray
    origins: frozenset[str]
    """The names of the stored tensors that it was made from."""
    quantised: bool = False
    """Whether any of it went through DequantizeLinear."""
    types: Types = NONE
    """Those in which its origins are stored."""

    @property
    def held(self) -> Types:
        """The types that its numbers may be given back to; none where they are restored from integers."""
        return NONE if self.quantised else self.types


_Outcome: TypeAlias = "Constant | UnfitError"


class Budget:
    """The work that may be done for one file, and the stored tensors that it is done on."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self._steps = 0
        self._computed = 0

    @property
    def max_entries(self) -> int:
        """The largest number of entries that one constant may have."""
        return max(SMALL, self.tensors.held)

    def step(self) -> None:
        """Count one step.

        Raises:
            UnfitError: it is one too many, or too much was computed before.
        """
        self._steps += 1
        if self._steps > MAX_STEPS or self._computed > WORK * (SMALL + self.tensors.held):
            raise UnfitError("its weights take more steps to put together than those of any sound file")

    def spend(self, nbytes: int) -> None:
        """Count what a step computed."""
        self._computed += nbytes


class Values:
    """The constants of a model, each computed once.

    Args:
        budget: the file's.
        known: values taken as given, although they exist only when the model runs.
        extent: taken for the first two sizes of every value that is not constant; None: no such guess.
    """

    def __init__(
        self, budget: Budget, known: Mapping[Ref, np.ndarray] | None = None, extent: Sequence[int] | None = None
    ) -> None:
        self._budget = budget
        self._extent = extent
        self._made: dict[Ref, _Outcome] = {ref: Constant(array, frozenset()) for ref, array in (known or {}).items()}

    def of(self, scope: Scope, name: str, depth: int = 0) -> Constant:
        """The constant of that name.

        Raises:
            UnfitError: it is none, or too much work.
        """
        if depth > MAX_DEPTH:
            raise UnfitError(f"its weights are more than {MAX_DEPTH} operators away from where they are stored")
        self._budget.step()
        place = scope.locate(name)
        if place is None:
            raise UnfitError(f"its weights are not in the file: {name[:100]!r} is an input, or is nowhere")
        outcome = self._made.get(place)
        if outcome is None:
            self._made[place] = UnfitError("its weights are computed from themselves")
            outcome = self._made[place] = self._outcome(place, depth)
        if isinstance(outcome, UnfitError):
            raise UnfitError(*outcome.args)  # a new one: tracebacks add up
        return outcome

    def _outcome(self, place: Ref, depth: int) -> _Outcome:
        scope, name = place
        try:
            if name in scope.stored:
                tensor = scope.stored[name]
                return Constant(
                    self._stored(tensor), frozenset((name,)), types=types_of(element_type(tensor.data_type))
                )
            return self._computed(place, depth)
        except UnfitError as error:
            return error

    def _stored(self, tensor: TensorProto) -> np.ndarray:
        array = self._budget.tensors.read(tensor)
        self._budget.spend(array.nbytes)
        return array

    def _computed(self, place: Ref, depth: int) -> Constant:
        scope, name = place
        node, output = scope.makers[name]
        kind = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        if kind == "Constant":
            array, types = self._constant(scope.attributes(node))
            return Constant(array, frozenset((name,)), types=types)
        operation = OPERATIONS.get("Identity" if kind == "Cast" and self._extent else kind)
        if operation is None or (kind == "Dropout" and output):
            raise UnfitError(f"its weights are computed by {kind[:100]}, not only rearranged")
        attributes = {
            key: self._stored(value) if isinstance(value, TensorProto) else value
            for key, value in scope.attributes(node).items()
        } | {"num_outputs": len(node.output)}
        inputs = self._inputs(scope, node, depth)
        arrays = [each.array if each else None for each in inputs]
        try:
            self._check_size(size_of_result(kind, arrays, attributes))
            made = operation(arrays, attributes)[output]
        # NumPy's own complaints about shapes and axes that do not fit.
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise UnfitError(f"its weights cannot be put together: {kind}: {' '.join(str(error).split())}") from None
        self._budget.spend(made.nbytes)
        held = [each for each in inputs if each]
        quantised = kind == "DequantizeLinear" or any(each.quantised for each in held)
        origins = frozenset().union(*(each.origins for each in held))
        return Constant(np.asarray(made), origins, quantised, NONE.union(*(each.types for each in held)))

    def _check_size(self, count: int) -> None:
        """Refuse a result before it is made, so that no file can ask for more memory than it has weights."""
        if not 0 <= count <= self._budget.max_entries:
            raise UnfitError(f"its weights are blown up to {count:,} numbers, more than the file holds")

    def _inputs(self, scope: Scope, node: NodeProto, depth: int) -> list[Constant | None]:
        try:
            return [self.of(scope, name, depth + 1) if name else None for name in node.input]
        except UnfitError:
            if node.op_type != "Shape" or self._extent is None:
                raise
            return [Constant(np.empty((*self._extent, 0)), frozenset())]

    def _constant(self, attributes: Mapping[str, Any]) -> tuple[np.ndarray, Types]:
        for name, value in attributes.items():
            if name == "value":
                return self._stored(value), types_of(element_type(value.data_type))
            if name in ("value_int", "value_ints"):
                return np.array(value, np.int64), NONE
            if name in ("value_float", "value_floats"):
                array = np.array(value, np.float32)
                return array, types_of(array.dtype)
        raise UnfitError(f"its weights are a Constant with {', '.join(attributes)[:100] or 'no value'}")
