"""What to call an operator: by the module that it was exported from, as far as the file tells."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rnndiag.parsers.onnx.graph import RECURRENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onnx import NodeProto

    from rnndiag.parsers.onnx.graph import Scope, Site

PARAMETER: Final = re.compile(r"(?:(?P<module>.+)\.)?(?P<parameter>(?:weight|bias)_[ih]h(?:_l\d+)?(?:_reverse)?)")
"""A parameter of a PyTorch module that kept its name."""
_METADATA: Final = "pkg.torch.onnx.name_scopes"
"""Where torch.onnx keeps the paths of the modules around a node, and after them the operation's own name."""
_WRAPPERS: Final = frozenset({"", "PartitionedCall", "StatefulPartitionedCall"})
"""Parts of a path that TensorFlow puts in."""
_MADE_BY_TF2ONNX: Final = re.compile(r"(?:LSTM|GRU|RNN)__\d+")
MAX_NAME: Final = 200
MAX_HOPS: Final = 10


@dataclass(frozen=True, slots=True)
class Name:
    """What an operator is called."""

    path: str
    """Dotted; empty for a module that is the whole model."""
    is_module: bool
    """Whether the path is that of a module, or of a layer in Keras, and not just the node's own name."""


def name_of(site: Site, origins: Iterable[str]) -> Name:
    """The name for a recurrent operator.

    Args:
        site: the operator.
        origins: the stored tensors that its weights come from.
    """
    node = site.node
    modules = {match["module"] or "" for match in map(PARAMETER.fullmatch, origins) if match}
    if len(modules) == 1:
        return Name(_short(modules.pop()), True)
    module = _from_metadata(node)
    if module is None and "/" in node.name:
        module = scope_of(node.name)
    if module is None and _MADE_BY_TF2ONNX.fullmatch(node.name):
        module = _from_neighbours(site)
    if module is not None:
        return Name(_short(module), True)
    return Name(_short(node.name or next(filter(None, node.output), node.op_type.lower())), False)


def scope_of(name: str) -> str:
    """The module's path in the name of a node or value: ``/encoder/lstm/LSTM`` is of ``encoder.lstm``."""
    return ".".join(part for part in name.split("/")[:-1] if part not in _WRAPPERS)


def _from_metadata(node: NodeProto) -> str | None:
    for entry in node.metadata_props:
        if entry.key == _METADATA and len(entry.value) <= 10 * MAX_NAME:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
            if isinstance(scopes, list) and len(scopes) > 1 and all(isinstance(each, str) for each in scopes):
                return str(scopes[-2])
    return None


def _from_neighbours(site: Site) -> str | None:
    """The layer's path where tf2onnx left it: in what reads the output, if what makes an input has it too."""
    makers = {path for name in site.node.input for path in _upstream(site.scope, name)}
    return next((path for path in _downstream(site) if any(_within(each, path) for each in makers)), None)


def _upstream(scope: Scope, name: str) -> Iterator[str]:
    for _ in range(MAX_HOPS):
        if scope_of(name):
            yield scope_of(name)
            return
        maker = scope.makers.get(name)
        if maker is None or not maker[0].input:
            return
        name = maker[0].input[0]


def _downstream(site: Site) -> Iterator[str]:
    todo = list(site.node.output)
    for name in todo:
        for node in site.scope.readers.get(name, ())[:MAX_HOPS] if len(todo) <= MAX_HOPS else ():
            if scope_of(node.name):
                yield scope_of(node.name)
            elif node.op_type not in RECURRENT:
                todo += node.output


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _short(path: str) -> str:
    return path if len(path) <= MAX_NAME else f"{path[: MAX_NAME - 1]}…"
