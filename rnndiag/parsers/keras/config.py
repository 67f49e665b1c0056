"""A Keras model's configuration: its layers by name, in order; code in it (Lambda, custom classes) is but a name.

For each layer it gives the path under which Keras 3 keeps its variables: the attributes that lead to it, where a
list of layers counts their classes (``layers/lstm_1/cell``; keras/src/saving/saving_lib.py).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from rnndiag.parsers.keras.layers import Cell, Other, Part, Recurrent, Table, Track, counted, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnndiag.parsers.keras.layers import Kind

_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("SimpleRNN", "SimpleRNNCell"), "rnn"),
    **dict.fromkeys(("GRU", "GRUCell", "CuDNNGRU"), "gru"),
    **dict.fromkeys(("LSTM", "LSTMCell", "CuDNNLSTM"), "lstm"),
}
_OWN: Final = ("keras", "tf_keras", "tensorflow")
MAX_DEPTH: Final = 100
"""Models in models."""


def layers(model: object) -> list[tuple[str, list[Part]]] | None:
    """The layers of a configuration, in its order; None where it tells of none, as a subclassed model's.

    Returns:
        The name of each of the model's own layers, and what it consists of: several parts for a nested model.
    """
    if not isinstance(model, dict) or layers_of(model) is None:
        return None
    return [(name_of(layer), list(_parts(layer, path, "", MAX_DEPTH))) for path, layer in _children(model, "")]


def is_recurrent(class_: str) -> bool:
    """Whether a class is a recurrent layer of Keras's own."""
    return class_ in _KINDS or class_ in ("RNN", "Bidirectional") or class_.startswith("ConvLSTM")


def is_like_recurrent(config: dict[str, Any]) -> bool:
    """Whether this is the configuration of a GRU or LSTM, as a class that extends one of them has it too."""
    return isinstance(config.get("units"), int) and {"recurrent_activation", "return_sequences"} <= config.keys()


def _children(model: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    held = layers_of(model) or []
    for layer, unique in zip(held, counted(_snake(class_of(layer)) for layer in held), strict=True):
        yield f"{path}/layers/{unique}".lstrip("/"), layer


def _parts(layer: dict[str, Any], path: str, outer: str, depth: int) -> Iterator[Part]:
    class_, config = class_of(layer), config_of(layer)
    name = dotted(outer, name_of(layer))
    inner = config.get("layer")
    if depth and layers_of(layer) is not None:
        for place, child in _children(layer, path):
            yield from _parts(child, place, name, depth - 1)
    elif class_ == "Bidirectional" and isinstance(inner, dict):
        yield _bidirectional(config, inner, path, name)
    elif is_recurrent(class_):
        track = _track(layer, path, name_of(layer))
        yield Recurrent(name, (track,), trainable=_is_trainable(config), sequences=_outputs_sequences(config))
    elif is_like_recurrent(config):
        cell = replace(_cell({**layer, "class_name": "LSTM", "module": "keras"}, f"{path}/cell"), kind=None)
        own = Track(name_of(layer), (cell,), bool(config.get("go_backwards")))
        yield Recurrent(name, (own,), trainable=_is_trainable(config), class_path=class_.removesuffix(_CUSTOM))
    elif class_ == "Embedding":
        yield Table(name, path, _is_trainable(config))
    elif depth and isinstance(inner, dict):  # TimeDistributed and other wrappers
        yield from _parts(inner, f"{path}/layer", name, depth - 1)
    else:
        yield Other(name, path, class_)


def _bidirectional(config: dict[str, Any], forward: dict[str, Any], path: str, name: str) -> Recurrent:
    backward = config.get("backward_layer")
    if not isinstance(backward, dict):  # Keras 2 writes it only where it was given
        opposite = {**config_of(forward), "go_backwards": not config_of(forward).get("go_backwards")}
        backward = {**forward, "config": opposite}
    tracks = tuple(
        _track(layer, f"{path}/{side}_layer", f"{side}_{name_of(layer).removeprefix(f'{side}_')}")
        for side, layer in (("forward", forward), ("backward", backward))
    )
    trainable = _is_trainable(config) and _is_trainable(config_of(forward))
    sequences = all(_outputs_sequences(config_of(layer)) for layer in (forward, backward))
    return Recurrent(name, tracks, str(config.get("merge_mode", "concat")), trainable, sequences=sequences)


def _track(layer: dict[str, Any], path: str, name: str) -> Track:
    class_, config = class_of(layer), config_of(layer)
    backwards = bool(config.get("go_backwards"))
    place = f"{path}/cell"
    if class_ != "RNN":
        # Layers of cuDNN's, and a cell that stands where a layer does, keep their variables themselves.
        return Track(
            name, (_cell(layer, path if class_.startswith("CuDNN") or "Cell" in class_ else place),), backwards
        )
    cell = config.get("cell")
    stacked = config_of(cell).get("cells") if isinstance(cell, dict) and class_of(cell) == "StackedRNNCells" else None
    if not isinstance(stacked, list):
        return Track(name, (_cell(cell if isinstance(cell, dict) else {}, place),), backwards)
    held = [each if isinstance(each, dict) else {} for each in stacked]
    paths = (f"{place}/cells/{unique}" for unique in counted(_snake(class_of(each)) for each in held))
    return Track(name, tuple(_cell(each, path) for each, path in zip(held, paths, strict=True)), backwards)


def _cell(layer: dict[str, Any], path: str) -> Cell:
    class_, config = class_of(layer), config_of(layer)
    kind = _KINDS.get(class_)
    if kind is None:
        return Cell(name_of(layer), path, fault=f"{class_} is none of SimpleRNN, GRU and LSTM; {_WAY_OUT}")
    activation = _function(config.get("activation", "tanh"))
    gate = "" if kind == "rnn" else _function(config.get("recurrent_activation", "sigmoid"))
    faults = []
    if activation not in _ACTIVATIONS:
        faults.append(f"its activation is {activation}; expected tanh or relu")
    if gate and gate not in _GATES:
        faults.append(f"its recurrent_activation is {gate}; expected sigmoid or hard_sigmoid")
    units = config.get("units")
    return Cell(
        name_of(layer),
        path,
        kind,
        cast("Literal['tanh', 'relu'] | None", activation if activation in _ACTIVATIONS else None),
        cast("Literal['sigmoid', 'hard_sigmoid'] | None", gate if gate in _GATES else None),
        # Before Keras had the option, it did what reset_after=False does.
        bool(config.get("reset_after", class_ == "CuDNNGRU")) if kind == "gru" else None,
        units if isinstance(units, int) else None,
        class_.startswith("CuDNN"),
        "; ".join([*faults, *([_WAY_OUT] if faults else [])]),
    )


_ACTIVATIONS: Final = ("tanh", "relu")
_GATES: Final = ("sigmoid", "hard_sigmoid")
_WAY_OUT: Final = "--import measures a step function of your own"


def _function(value: object) -> str:
    """The name of an activation; of a function that is not Keras's own with a mark, so that it is not taken for one."""
    if value is None:
        return "linear"
    own = isinstance(value, dict) and value.get("class_name") == "function"
    if isinstance(value, dict):
        value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
    return f"{value[:60]}{_CUSTOM * own}" if isinstance(value, str) else f"a function{_CUSTOM}"


def _outputs_sequences(config: dict[str, Any]) -> bool:
    return config.get("return_sequences") is True


def layers_of(model: dict[str, Any]) -> list[dict[str, Any]] | None:
    """A model's layers; None for anything else."""
    config = model.get("config")
    # Sequential's was a bare list before Keras 2.2.3.
    held = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(held, list) or any(not isinstance(each, dict) or "class_name" not in each for each in held):
        return None
    return held


def class_of(layer: dict[str, Any]) -> str:
    """The name of a class of Keras's own; one of another package with a mark, so that it is not taken for one.

    Older files give no module, and a custom class as ``package>Class``.
    """
    class_, module = str(layer.get("class_name", "no class"))[:100], layer.get("module", "keras")
    is_own = isinstance(module, str) and module.partition(".")[0] in _OWN and ">" not in class_
    return class_ if is_own else f"{class_.rpartition('>')[2]}{_CUSTOM}"


_CUSTOM: Final = " (custom)"


def config_of(layer: dict[str, Any]) -> dict[str, Any]:
    """The configuration of one layer; empty where there is none."""
    config = layer.get("config")
    return config if isinstance(config, dict) else {}


def name_of(layer: dict[str, Any]) -> str:
    """The name of a layer within its model."""
    return str(config_of(layer).get("name") or layer.get("name") or _snake(class_of(layer)))


def _is_trainable(config: dict[str, Any]) -> bool:
    return config.get("trainable") is not False


def _snake(class_: str) -> str:
    """keras/src/utils/naming.py: ``SimpleRNN`` is ``simple_rnn``."""
    name = re.sub(r"\W+", "", class_.removesuffix(_CUSTOM))
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
