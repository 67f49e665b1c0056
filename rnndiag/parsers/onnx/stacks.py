"""Which operators feed one another as the levels of one module do, and which table the lowest reads.

Writers put a stack of layers down as one operator a level, with transposes and reshapes between them that come
to nothing. They are computed here on numbers that tell every entry of the output below apart, so that only
operators whose inputs are exactly those outputs are put together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from rnndiag.errors import UnfitError
from rnndiag.parsers.onnx.constants import Values
from rnndiag.parsers.onnx.graph import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rnndiag.parsers.onnx.constants import Budget, Constant
    from rnndiag.parsers.onnx.graph import Site
    from rnndiag.parsers.onnx.names import Name
    from rnndiag.parsers.onnx.operators import Layer

MAX_ENTRIES: Final = 1 << 22
"""Entries of an output that are told apart; longer or wider ones stay modules of their own."""
_FREE: Final = (3, 2)
"""Steps and sequences where a model leaves them open: different, and neither of them 1."""
_PASSING: Final = frozenset(
    (
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Dropout",
        "Cast",
        "Concat",
        "Slice",
        "Split",
        "Flatten",
    )
)
"""Operators through which the origin of an input is sought, by their first input."""


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """A recurrent operator that can be measured."""

    site: Site
    layer: Layer
    name: Name

    @property
    def batch_first(self) -> bool:
        """Whether time is the second axis of input and output, not the first."""
        return bool(self.site.scope.attributes(self.site.node).get("layout", 0))


def chains(operators: Sequence[Operator], budget: Budget) -> list[list[Operator]]:
    """The operators, those together that are levels of one module, lowest first."""
    by_output = {Ref(each.site.scope, each.site.node.output[0]): each for each in operators if each.site.node.output}
    above: dict[int, list[Operator]] = {}
    seen: set[int] = set()
    for operator in operators:
        below = _below(operator, by_output, budget)
        seen.add(id(operator))
        if below is not None and id(below) in seen:  # a cycle is no stack
            above.setdefault(id(below), []).append(operator)
    # An output that two operators read belongs to a model that branches there.
    follows = {each: only[0] for each, only in above.items() if len(only) == 1}
    upper = {id(operator) for operator in follows.values()}
    found = []
    for operator in operators:
        if id(operator) not in upper:
            chain = [operator]
            while id(chain[-1]) in follows:
                chain.append(follows[id(chain[-1])])
            found.append(chain)
    return found


def table(operator: Operator, budget: Budget) -> tuple[str, Constant] | None:
    """The embedding whose rows an operator reads: the name it is stored under and its value, ``[V, D]``.

    Raises:
        UnfitError: there is one, and it cannot be read.
    """
    *_, source = _upstream(operator)
    maker = source.scope.makers.get(source.name)
    if maker is None or maker[0].op_type != "Gather" or len(maker[0].input) != 2:
        return None
    node = maker[0]
    place = source.scope.locate(node.input[0])
    if place is None or source.scope.attributes(node).get("axis", 0) != 0:
        return None
    stored = place.scope.stored.get(place.name)
    if stored is not None and (len(stored.dims) != 2 or stored.dims[1] != operator.layer.input_size):
        return None
    if stored is None and place.scope.makers[place.name][0].op_type != "Constant":
        return None
    constant = Values(budget).of(source.scope, node.input[0])
    fits = constant.array.ndim == 2 and constant.array.shape[1] == operator.layer.input_size
    return (place.name, constant) if fits and constant.array.dtype.kind == "f" else None


def _below(operator: Operator, by_output: Mapping[Ref, Operator], budget: Budget) -> Operator | None:
    """The operator whose output is the input of this one, if the two can be levels of one module."""
    *_, source = _upstream(operator)
    below = by_output.get(source)
    if below is None or not _alike(below, operator):
        return None
    return below if any(_reads(operator, below, source, sizes, budget) for sizes in _sizes(operator, budget)) else None


def _alike(below: Operator, above: Operator) -> bool:
    one, other = below.layer, above.layer
    return (
        (one.convention, one.hidden_size, len(one.directions), len(one.directions[0]))
        == (other.convention, other.hidden_size, len(other.directions), len(other.directions[0]))
        and one.output_size == other.input_size
        and not (below.name.is_module and above.name.is_module and below.name.path != above.name.path)
    )


def _upstream(operator: Operator) -> Iterator[Ref]:
    """Where the input is made, and where what that is made from is made, as long as it is only rearranged."""
    place = operator.site.scope.locate(operator.site.node.input[0])
    for _ in range(100):
        if place is None:
            break
        yield place
        maker = place.scope.makers.get(place.name)
        if maker is None or not maker[0].input:
            return
        picks = maker[0].op_type == "Gather" and place.scope.attributes(maker[0]).get("axis", 0) != 0
        if not picks and maker[0].op_type not in _PASSING:  # a Gather by rows is an embedding
            return
        place = place.scope.locate(maker[0].input[0])
    yield Ref(operator.site.scope, "")


def _sizes(operator: Operator, budget: Budget) -> Iterator[tuple[int, int]]:
    """Numbers of steps and of sequences that the reshapes on the way may be made for."""
    yield _FREE
    for scope, name in _upstream(operator):
        node, _ = scope.makers.get(name, (None, 0))
        if node is not None and node.op_type == "Reshape" and len(node.input) > 1:
            try:
                target = Values(budget).of(scope, node.input[1]).array.ravel()[:2].tolist()
            except UnfitError:  # made for any size
                continue
            if len(target) == 2:
                sizes = [int(n) if n > 0 else free for n, free in zip(target, _FREE, strict=True)]
                yield sizes[0], sizes[1]
                yield sizes[1], sizes[0]


def _reads(above: Operator, below: Operator, source: Ref, sizes: tuple[int, int], budget: Budget) -> bool:
    """Whether the input of one operator is the output of the other, its directions side by side."""
    steps, sequences = sizes
    directions, hidden = len(below.layer.directions), below.layer.hidden_size
    count = steps * sequences * directions * hidden
    if count > MAX_ENTRIES:
        return False
    entries = np.arange(count, dtype=np.int32).reshape(steps, directions, sequences, hidden)
    expected = entries.transpose(0, 2, 1, 3).reshape(steps, sequences, directions * hidden)
    output = entries.transpose(2, 0, 1, 3) if below.batch_first else entries
    if above.batch_first:
        expected = expected.transpose(1, 0, 2)
    # Reshapes may ask for the sizes of the model's own input, which has time first or the batch.
    return any(_equals(above, Values(budget, {source: output}, extent), expected) for extent in (sizes, sizes[::-1]))


def _equals(operator: Operator, values: Values, expected: np.ndarray) -> bool:
    try:
        return np.array_equal(values.of(operator.site.scope, operator.site.node.input[0]).array, expected)
    except UnfitError:
        return False
