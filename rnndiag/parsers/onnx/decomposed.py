"""Recurrent cells that a writer put down as elementary operators: not measured, but named."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from rnndiag.parsers.onnx.names import PARAMETER, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onnx import NodeProto

    from rnndiag.parsers.onnx.graph import Graphs, Ref, Scope

ADVICE: Final = (
    "export nn.LSTM, nn.GRU or nn.RNN in place of a loop over a cell (nn.RNN with dynamo=False), or give the"
    " state_dict or the Keras file itself"
)
_PRODUCTS: Final = frozenset(("MatMul", "Gemm"))
_SQUASHING: Final = frozenset(("Sigmoid", "Tanh"))
_NONLINEAR: Final = _SQUASHING | {"Relu"}
_CARRYING: Final = frozenset(("Add", "Mul", "Squeeze", "Identity", "Reshape", "Cast"))
"""What may stand between the rows of a gate and its nonlinearity."""
_CALL: Final = re.compile(r"_\d+$")
"""The number that torch.onnx puts after a module at its second call and later ones."""
MAX_NODES: Final = 100_000
"""Nodes of a body that is searched for gates or for steps."""
MAX_STEP: Final = 500
"""Nodes that a step of a cell may have."""
MAX_WEIGHTS: Final = 100
"""Matrices whose products are followed."""


def written_out(graphs: Graphs, read: frozenset[str]) -> dict[str, str]:
    """The cells that seem to be written out, by the best name there is, and why each is thought one.

    Args:
        graphs: the model.
        read: the stored tensors that recurrent operators were made from.
    """
    for search in (_by_parameters(graphs, read), _in_loops(graphs), _unrolled(graphs), _by_gates(graphs)):
        found: dict[str, str] = {}
        for name, sign in search:
            found.setdefault(name, sign)
        if found:
            return found
    return {}


def _by_parameters(graphs: Graphs, read: frozenset[str]) -> Iterator[tuple[str, str]]:
    for scope in graphs.scopes:
        for name in scope.stored:
            match = PARAMETER.fullmatch(name)
            if match and name not in read:
                yield match["module"] or "(top level)", f"it has a parameter {match['parameter']}"


def _in_loops(graphs: Graphs) -> Iterator[tuple[str, str]]:
    for site in graphs.bodies_of_loops:
        kinds = {node.op_type for node in site.scope.nodes}
        if kinds & _PRODUCTS and kinds & _SQUASHING:
            yield (
                scope_of(site.node.name) or site.node.name or next(iter(site.node.output), "(top level)"),
                f"the body of a {site.node.op_type} multiplies matrices and applies"
                f" {' and '.join(sorted(kinds & _SQUASHING))}",
            )


def _unrolled(graphs: Graphs) -> Iterator[tuple[str, str]]:
    """Matrices that are applied again to what came of their own product, with a nonlinearity on the way."""
    for scope in graphs.scopes:
        if len(scope.nodes) > MAX_NODES or not graphs.kinds.keys() & _NONLINEAR:
            continue
        products: defaultdict[Ref, list[NodeProto]] = defaultdict(list)
        for node in scope.nodes:
            weight = _stored(scope, node.input[1]) if node.op_type in _PRODUCTS and len(node.input) > 1 else None
            if weight is not None:
                products[weight].append(node)
        for weight, nodes in list(products.items())[:MAX_WEIGHTS]:
            outputs = {name for node in nodes for name in node.output}
            # Keras computes the first step twice, once for its shape alone.
            if len(nodes) > 1 and any(_comes_back(scope, node, outputs) for node in nodes[:2]):
                name = _CALL.sub("", scope_of(nodes[0].name)) or weight.name
                yield name, "a matrix is applied again to what came of its own product"


def _stored(scope: Scope, name: str) -> Ref | None:
    """The stored matrix behind a name."""
    for _ in range(5):
        place = scope.locate(name)
        maker = place.scope.makers.get(place.name) if place else None
        if maker is None or maker[0].op_type == "Constant":
            return place
        if maker[0].op_type not in ("Identity", "Transpose", "Cast") or not maker[0].input:
            return None
        scope, name = place.scope if place else scope, maker[0].input[0]
    return None


def _comes_back(scope: Scope, first: NodeProto, outputs: set[str]) -> bool:
    """Whether one of the products is computed from the first, through a nonlinearity."""
    todo = [(name, False) for name in first.output]
    reached = set(todo)
    for name, bent in todo:
        for node in scope.readers.get(name, ())[:MAX_STEP]:
            if bent and node.op_type in _PRODUCTS and outputs & set(node.output):
                return True
            new = {(each, bent or node.op_type in _NONLINEAR) for each in node.output} - reached
            reached |= new
            todo += new
        if len(todo) > MAX_STEP:
            return False
    return False


def _by_gates(graphs: Graphs) -> Iterator[tuple[str, str]]:
    for scope in graphs.scopes:
        if len(scope.nodes) <= MAX_NODES and graphs.kinds["Sigmoid"] and graphs.kinds["Tanh"]:
            yield from _gates(scope)


def _gates(scope: Scope) -> Iterator[tuple[str, str]]:
    """Values cut in three or more, of which some go into a sigmoid and others into a tanh."""
    pieces: Counter[str] = Counter()
    for node in scope.nodes:
        if node.op_type in ("Split", "Slice") and node.input:
            pieces[node.input[0]] += len(node.output)
    for node in scope.nodes:
        if node.op_type in ("Split", "Slice") and node.input and pieces[node.input[0]] >= 3:
            whole = node.input[0]
            cuts = [name for each in scope.readers[whole] if each.op_type == node.op_type for name in each.output]
            if _squashed(scope, cuts) >= _SQUASHING:
                name = _CALL.sub("", scope_of(node.name)) or node.name or whole
                yield name, "a sum is cut in three or more and goes through Sigmoid and Tanh"
            pieces[whole] = 0


def _squashed(scope: Scope, names: Iterable[str]) -> set[str]:
    """Which nonlinearities the values reach within three steps."""
    found: set[str] = set()
    reached = list(names)
    for _ in range(3):
        readers = [node for name in reached[:64] for node in scope.readers.get(name, ())[:MAX_STEP]]
        found |= {node.op_type for node in readers} & _SQUASHING
        reached = [name for node in readers if node.op_type in _CARRYING for name in node.output]
    return found
