"""Files of torch.export: a program as JSON, and its state_dict as raw numbers or as a file of torch.save within.

The program is not run; it names the class of each module, and the kernel that tells tanh from relu. The layout
is that of ``torch.export.pt2_archive`` and, up to PyTorch 2.7, of ``torch.export.save`` in plain zip archives.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import msgspec
import torch

from rnndiag.checkpoint.contents import MAX_TENSORS, Container, Contents, KeyPath, Leaf, ModuleFacts, Unusable
from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.formats.torch_archive import Archive, folder_of
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.unpickling.rebuild import view
from rnndiag.checkpoint.unpickling.walk import walk
from rnndiag.errors import CheckpointError
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    import pathlib

    from rnndiag.checkpoint.contents import Nonlinearity

ARCHIVE_FORMAT: Final = "archive_format"
OLD_PROGRAM, OLD_WEIGHTS = "serialized_exported_program.json", re.compile(r"serialized_state_dict\.(?:pt|json)")
PROGRAM: Final = re.compile(r"models/(.+)\.json")
COMPILED: Final = "data/aotinductor/"

MAX_CONFIG_BYTES: Final = 16 << 20
"""Bytes of JSON that describe the weights, some 330 a tensor."""
MAX_PROGRAM_BYTES: Final = 16 << 20
"""Bytes of a program that are searched, some 1500 a node."""

MAX_STACK_CHARACTERS: Final = 10_000
"""Characters of the modules around a node, some 100 each."""

DTYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
}
"""``torch._export.serde.schema.ScalarType``"""

_KERNEL: Final = re.compile(r"torch\.ops\.aten\.rnn_(tanh|relu)(?:_cell)?\.\w+")
_STEP: Final = re.compile(r"torch\.ops\.aten\.(tanh|relu)_?\.\w+")
_PLAIN: Final = ("torch.nn.modules.rnn.RNN", "torch.nn.modules.rnn.RNNCell")
_CALL: Final = re.compile(r"@\d+$")  # the second call of a module is at rnn@1


class _Count(msgspec.Struct):
    as_int: int


class _TensorMeta(msgspec.Struct):
    dtype: int
    sizes: list[_Count]
    strides: list[_Count]
    storage_offset: _Count


class _Payload(msgspec.Struct):
    path_name: str
    use_pickle: bool = False
    tensor_meta: _TensorMeta | None = None


class _Config(msgspec.Struct):
    config: dict[str, _Payload]


class _Origin(msgspec.Struct):
    nn_module_stack: str = ""


class _Node(msgspec.Struct):
    target: str = ""
    metadata: _Origin | None = None


class _Graph(msgspec.Struct):
    nodes: list[_Node]


class _GraphModule(msgspec.Struct):
    graph: _Graph


class _Program(msgspec.Struct):
    graph_module: _GraphModule


def read(path: pathlib.Path) -> Contents:
    """Read the weights of each program in the file, and what the program says of its modules.

    Raises:
        CheckpointError: no weights, or none but those that AOTInductor compiled.
    """
    archive = Archive(path)
    models = {match[1]: name for name in archive.members if (match := PROGRAM.fullmatch(name))}
    if OLD_PROGRAM in archive.members:
        models = {"model": OLD_PROGRAM}
    contents = Contents(archive.size, (), framework="PyTorch")
    for model, program in models.items():
        place = KeyPath().child(model) if len(models) > 1 else KeyPath()
        tensors = _weights(archive, model)
        searched = _Search(archive, program)
        contents = replace(
            contents,
            containers=(*contents.containers, Container(place, tensors, searched.facts)),
            statements=(*contents.statements, *searched.statements),
            notes=(*contents.notes, *searched.notes),
        )
    if any(name.startswith(COMPILED) for name in archive.members):
        if not models:
            raise CheckpointError(
                f"{path}: compiled by AOTInductor, which puts the weights into machine code:"
                " save the exported program with torch.export.save, or the state_dict"
            )
        contents = replace(contents, skipped=(Skipped(COMPILED.rstrip("/"), "compiled by AOTInductor"),))
    if not models:
        raise CheckpointError(f"{path}: a PT2 archive without a program: expected models/model.json")
    return contents


def _weights(archive: Archive, model: str) -> dict[str, Leaf]:
    config = f"data/weights/{model}_weights_config.json"
    if config in archive.members:
        if archive.members[config].file_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{archive.path}: {printable(config)} is larger than any model's")
        (_, text), *_ = archive.texts([config], MAX_CONFIG_BYTES)
        payloads = msgspec.json.decode(text, type=_Config).config
        if len(payloads) > MAX_TENSORS:
            raise CheckpointError(f"{archive.path}: it holds {len(payloads):,} tensors, more than any model has")
        return {name: _tensor(archive, payload) for name, payload in payloads.items()}
    whole = f"data/weights/{model}.pt"  # up to PyTorch 2.8
    old = [name for name in archive.members if name == whole or OLD_WEIGHTS.fullmatch(name)]
    if not old:
        held = listing([printable(name, 60) for name in archive.members], 4)
        raise CheckpointError(f"{archive.path}: expected {printable(config)}, got {held}")
    inner = archive.inner(old[0])
    saved = walk(inner.unpickle("data.pkl", "data/"), inner.size)
    return {name: leaf for each in saved.containers if not each.path.parts for name, leaf in each.tensors.items()}


def _tensor(archive: Archive, payload: _Payload) -> Leaf:
    meta, member = payload.tensor_meta, f"data/weights/{payload.path_name}"
    if payload.use_pickle or meta is None:
        return Unusable("it was pickled, as tensors of other classes are")
    if meta.dtype not in DTYPES:
        return Unusable(f"numbers of type {meta.dtype} of torch.export's schema")
    if member not in archive.members:
        raise CheckpointError(f"{archive.path}: {printable(member)} is missing: copy the file again")
    sizes, strides = (tuple(count.as_int for count in counts) for counts in (meta.sizes, meta.strides))
    return view(archive.storage(member, DTYPES[meta.dtype]), meta.storage_offset.as_int, sizes, strides)


class _Search:
    """What a program says of the modules that were exported: their classes, tanh or relu."""

    def __init__(self, archive: Archive, member: str) -> None:
        self.facts: dict[str, ModuleFacts] = {}
        self.statements: list[tuple[str, Nonlinearity]] = []
        self.notes: list[str] = []
        if archive.members[member].file_size > MAX_PROGRAM_BYTES:
            self.notes.append(f"{printable(member)} was not searched for tanh or relu: it has more than 16 MiB")
            return
        (_, text), *_ = archive.texts([member], MAX_PROGRAM_BYTES)
        self._search(member, msgspec.json.decode(text, type=_Program).graph_module.graph.nodes)

    def _search(self, member: str, nodes: list[_Node]) -> None:
        classes: dict[str, str] = {}
        kernels: defaultdict[str, set[str]] = defaultdict(set)
        steps: defaultdict[str, set[str]] = defaultdict(set)
        for node in nodes:
            stack = node.metadata.nn_module_stack[:MAX_STACK_CHARACTERS] if node.metadata else ""
            path = ""
            # Innermost last: a key, the module's path, its class.
            for _, path, class_path in (entry for e in stack.split(";") if len(entry := e.split(",")) == 3):
                classes[_CALL.sub("", path)] = class_path
            for pattern, found in ((_KERNEL, kernels), (_STEP, steps)):
                if match := pattern.fullmatch(node.target):
                    found[_CALL.sub("", path)].add(match[1])
        for path, class_path in classes.items():
            # Decomposed, a module is its arithmetic.
            told = kernels[path] or (steps[path] if class_path in _PLAIN else set())
            self.facts[path] = ModuleFacts(class_path, _only(told))
        for kind in sorted(set().union(*kernels.values())):
            self.statements.append((printable(member), cast("Nonlinearity", kind)))


def _only(found: set[str]) -> Nonlinearity | None:
    return cast("Nonlinearity", next(iter(found))) if len(found) == 1 else None


def _recognizes(candidate: Candidate) -> bool:
    folder = folder_of(candidate)
    names = {member.filename for member in candidate.members}
    return OLD_PROGRAM in names or (bool(folder) and f"{folder}{ARCHIVE_FORMAT}" in names)


FORMAT: Final = Format("torch-export", _recognizes, read, written_back, suffixes=(".pt2",))
