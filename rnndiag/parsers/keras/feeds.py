"""What each recurrent layer of a Keras model reads, as its configuration states it.

Layers that change no value of a step (dropout, masks, ``linear`` activations) are looked through. Calls are followed as
Keras stores them: a ``Sequential`` in its order, a functional model by ``inbound_nodes`` in the forms of Keras 2
(``[[name, node, tensor, kwargs]]``) and Keras 3 (``{"args": [...]}``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from rnndiag.parsers.keras import config as stored
from rnndiag.parsers.keras.layers import dotted

_PASSING: Final = frozenset(
    {
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "InputLayer",
        "Masking",
        "SpatialDropout1D",
    }
)
"""Layers whose output, when the model is used, has the values of their input."""
MAX_CALLS: Final = 50_000
"""Calls of layers that are followed in one model."""


@dataclass(frozen=True, slots=True)
class Source:
    """A value in a model: which layer made it, and which of the layer's outputs it is."""

    name: str = ""
    """Dotted, with the names of the models that the layer is nested in; empty for an input of the model."""
    what: str = ""
    """The layer's class."""
    index: int = 0

    @property
    def is_input(self) -> bool:
        """Whether these are inputs of the model, or rows of a table that its inputs choose."""
        return not self.name or self.what == "Embedding"


UNKNOWN: Final = Source("?", "what its configuration does not tell")

Feeds: TypeAlias = dict[str, list[Source]]
"""By the dotted name of a recurrent layer, what it reads at each of its calls."""


def feeds_of(model: Any) -> Feeds:
    """What each recurrent layer of a model reads."""
    trace = _Trace()
    trace.model(model, "", [], stored.MAX_DEPTH)
    return trace.feeds


class _Trace:
    def __init__(self) -> None:
        self.feeds: defaultdict[str, list[Source]] = defaultdict(list)
        self._calls = 0

    def model(self, model: dict[str, Any], name: str, inputs: list[Source], depth: int) -> list[Source]:
        """The outputs of a model for some inputs."""
        held = stored.layers_of(model) or []
        config = stored.config_of(model)
        self._calls += len(held)
        if self._calls > MAX_CALLS:
            return [UNKNOWN]
        if not any(layer.get("inbound_nodes") for layer in held):
            values = inputs or [Source()]
            for layer in held:
                values = self._call(layer, name, values, depth)
            return values
        made = self._functional(held, config, name, inputs, depth)
        ends = [_history(each) for each in _references(config.get("output_layers"))]
        return [_picked(made, end) for end in ends] or [UNKNOWN]

    def _call(self, layer: dict[str, Any], outer: str, inputs: list[Source], depth: int) -> list[Source]:
        """The outputs of a layer for some inputs."""
        class_, config = stored.class_of(layer), stored.config_of(layer)
        name = dotted(outer, stored.name_of(layer))
        inner = config.get("layer")
        if not depth or not inputs:
            return [UNKNOWN]
        if stored.layers_of(layer) is not None:
            return self.model(layer, name, inputs, depth - 1)
        passes = class_ in _PASSING or (class_ == "Activation" and config.get("activation") == "linear")
        within = class_ == "TimeDistributed" and isinstance(inner, dict) and stored.class_of(inner) in _PASSING
        if (passes or within) and len(inputs) == 1:
            return inputs
        if stored.is_recurrent(class_) or stored.is_like_recurrent(config):
            self.feeds[name].append(inputs[0])
        return [Source(name, class_)]

    def _functional(
        self, held: list[dict[str, Any]], config: dict[str, Any], outer: str, inputs: list[Source], depth: int
    ) -> dict[tuple[str, int], list[Source]]:
        """The outputs of each call of a layer: by the layer's name and the number of the call."""
        starts = [_history(each)[0] for each in _references(config.get("input_layers"))]
        given = dict(zip(starts, inputs, strict=False))
        by_name = {stored.name_of(layer): layer for layer in held}
        calls = {
            (name, i): [_history(each) for each in _references(node)]
            for name, layer in by_name.items()
            for i, node in enumerate(_nodes(layer))
        }
        made = {(name, 0): [given.get(name, Source())] for name in by_name if not _nodes(by_name[name])}
        readers: defaultdict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
        missing: dict[tuple[str, int], int] = {}
        for call, read in calls.items():
            makers = {(name, node) for name, node, _ in read}
            missing[call] = len(makers - made.keys())
            for maker in makers - made.keys():
                readers[maker].append(call)
        ready = [call for call, count in missing.items() if not count]
        for call in ready:  # it grows
            made[call] = self._call(by_name[call[0]], outer, [_picked(made, each) for each in calls[call]], depth)
            for reader in readers[call]:
                missing[reader] -= 1
                if not missing[reader]:
                    ready.append(reader)
        return made


_History: TypeAlias = tuple[str, int, int]
"""A layer's name, the number of its call, and the number of the output."""


def _picked(made: dict[tuple[str, int], list[Source]], history: _History) -> Source:
    name, node, index = history
    outputs = made.get((name, node), [UNKNOWN])
    if len(outputs) > 1:
        return outputs[index] if index < len(outputs) else UNKNOWN
    return replace(outputs[0], index=index) if index else outputs[0]


def _nodes(layer: dict[str, Any]) -> list[Any]:
    nodes = layer.get("inbound_nodes")
    return nodes if isinstance(nodes, list) else []


def _references(value: Any, depth: int = 8) -> Iterator[Any]:
    """The values that a call reads or that a model has, in their order."""
    if isinstance(value, dict) and isinstance(value.get("args"), list):
        value = value["args"]
    if _is_reference(value):
        yield value
    elif isinstance(value, list) and depth:
        for each in value:
            yield from _references(each, depth - 1)


def _is_reference(value: Any) -> bool:
    if isinstance(value, dict):
        value = stored.config_of(value).get("keras_history")
    if not isinstance(value, list) or len(value) not in (3, 4):
        return False
    return isinstance(value[0], str) and isinstance(value[1], int) and isinstance(value[2], int)


def _history(reference: Any) -> _History:
    value = reference["config"]["keras_history"] if isinstance(reference, dict) else reference
    return value[0], value[1], value[2]
