"""An ONNX model's nodes and names: graphs, the bodies inside If, Loop and Scan, and calls of its own functions.

``onnx.inliner.inline_local_functions`` does not replace the calls. It leaves a call as it is, without a warning, if the
function imports another opset than the model. It renames the nodes, by whose names layers are shown. It expands calls
before anything can count them: 31 functions of three calls each abort the process, and in onnx 1.16 a function that
calls itself does so too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from onnx import AttributeProto, helper

from rnndiag.parsers.onnx.quantized import is_quantized
from rnndiag.parsers.parsed import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

MAX_NODES: Final = 250_000
"""Nodes of all bodies together, a function's once for each call; large exports stay below 100,000."""
MAX_BODIES: Final = 20_000
MAX_DEPTH: Final = 32
"""Bodies within bodies; protobuf itself allows some 30 graphs."""
MAX_HOPS: Final = 200
"""From a name inside bodies and functions to where its value is made."""

STANDARD: Final = ("", "ai.onnx")
"""Both names of the domain of ONNX's own operators."""
RECURRENT: Final = ("RNN", "GRU", "LSTM")


class Ref(NamedTuple):
    """A name, and the body in which it has its meaning."""

    scope: Scope
    name: str


@dataclass(eq=False)
class Scope:
    """One body of nodes: the main graph, a branch, a loop's body, or one call of a function."""

    nodes: Sequence[NodeProto]
    stored: Mapping[str, TensorProto] = field(default_factory=dict)
    """The initializers, by name."""
    outer: Scope | None = None
    """The body that names from outside are found in; None for the main graph and for functions."""
    inputs: dict[str, Ref | None] = field(default_factory=dict)
    """What the formal inputs stand for; None: for values that exist only when the model runs."""
    called_with: Mapping[str, AttributeProto] = field(default_factory=dict)
    """A function's attributes in this call."""
    outputs: dict[str, Ref] = field(default_factory=dict)
    """The results of calls of functions: where inside the function they are made."""

    @cached_property
    def makers(self) -> dict[str, tuple[NodeProto, int]]:
        """The node that makes each value, and which of its outputs that is."""
        return {name: (node, i) for node in self.nodes for i, name in enumerate(node.output)}

    @cached_property
    def readers(self) -> dict[str, list[NodeProto]]:
        """The nodes of this body that read each value."""
        found: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                found[name].append(node)
        return found

    def locate(self, name: str) -> Ref | None:
        """Where ``name`` is stored or made; None if it is an input of the model or is nowhere."""
        here: Ref | None = Ref(self, name)
        for _ in range(MAX_HOPS):
            if here is None or not here.name:
                return None
            scope, name = here
            if name in scope.stored:
                return here
            if name in scope.outputs:
                here = scope.outputs[name]
            elif name in scope.makers:
                return here
            elif name in scope.inputs:
                here = scope.inputs[name]
            else:
                here = Ref(scope.outer, name) if scope.outer else None
        return None

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        """A node's attributes by name, as Python values, tensors and graphs as they are."""
        found = {}
        for attribute in node.attribute:
            given = self.called_with.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if given is not None:
                found[attribute.name] = helper.get_attribute_value(given)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A node and the body that it stands in."""

    scope: Scope
    node: NodeProto


class Graphs:
    """Every body of a model, walked once.

    Raises:
        RefusedError: more nodes, or deeper nesting, than any writer makes.
    """

    def __init__(self, model: ModelProto) -> None:
        self.recurrent: list[Site] = []
        """ONNX's own recurrent operators and the quantized LSTM of onnxruntime, in the model's order."""
        self.foreign: list[Site] = []
        """Recurrent operators of other domains, by their names."""
        self.scopes: list[Scope] = []
        """All bodies, each after the one that it stands in."""
        self.bodies_of_loops: list[Site] = []
        """For each body of a Loop or Scan: the body, and the node."""
        self.kinds: Counter[str] = Counter()
        """How many nodes there are of each operator."""
        self._functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        self._nodes = 0
        self._enter(_scope_of(model.graph, None), 0)

    def _enter(self, scope: Scope, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise RefusedError(f"graphs or functions nested more than {MAX_DEPTH} deep; no writer makes such")
        self._nodes += len(scope.nodes)
        if self._nodes > MAX_NODES:
            raise RefusedError(f"more than {MAX_NODES:,} nodes, a function's counted once a call; no model has so many")
        if len(self.scopes) >= MAX_BODIES:
            raise RefusedError(f"more than {MAX_BODIES:,} graphs and calls of functions; no model has so many")
        self.scopes.append(scope)
        for node in scope.nodes:
            kind = node.op_type
            self.kinds[kind] += 1
            function = self._functions.get((node.domain, kind, node.overload)) if self._functions else None
            if function is not None:
                self._enter(_call(scope, node, function), depth + 1)
            elif (kind in RECURRENT and node.domain in STANDARD) or is_quantized(node):
                self.recurrent.append(Site(scope, node))
            elif kind in ("If", "Loop", "Scan"):
                for graph in _graphs(node):
                    body = _scope_of(graph, scope)
                    if kind != "If":
                        self.bodies_of_loops.append(Site(body, node))
                    self._enter(body, depth + 1)
            elif any(name in kind for name in RECURRENT):
                self.foreign.append(Site(scope, node))


def _scope_of(graph: GraphProto, outer: Scope | None) -> Scope:
    return Scope(
        graph.node,
        {tensor.name: tensor for tensor in graph.initializer},
        outer,
        {each.name: None for each in graph.input},
    )


def _call(scope: Scope, node: NodeProto, function: FunctionProto) -> Scope:
    """The body of a function with what one node gives it; its results become known to the node's body."""
    given = {attribute.name: attribute for attribute in function.attribute_proto}
    for attribute in node.attribute:
        passed = scope.called_with.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if passed is not None:
            given[attribute.name] = passed
    inputs: dict[str, Ref | None] = dict.fromkeys(function.input)
    inputs |= {formal: Ref(scope, name) for formal, name in zip(function.input, node.input, strict=False)}
    body = Scope(function.node, inputs=inputs, called_with=given)
    for name, formal in zip(node.output, function.output, strict=False):
        scope.outputs[name] = Ref(body, formal)
    return body


def _graphs(node: NodeProto) -> list[GraphProto]:
    found: list[GraphProto] = []
    # By name backwards: what an If does comes before what it does otherwise.
    for attribute in sorted(node.attribute, key=lambda each: each.name, reverse=True):
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        found += attribute.graphs
    return found
