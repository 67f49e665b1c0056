"""TorchScript archives, for servers or for phones: the pickle of a module's parameters beside the text of its code.

The code is never compiled or run, only searched for the name of a nonlinearity.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

from rnndiag.checkpoint.contents import ModuleFacts
from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.formats.torch_archive import Archive, folder_of
from rnndiag.checkpoint.model import Skipped
from rnndiag.checkpoint.unpickling import walk
from rnndiag.errors import CheckpointError
from rnndiag.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents, Nonlinearity
    from rnndiag.checkpoint.unpickling.stand_in import StandIn

MARKS: Final = ("constants.pkl", "bytecode.pkl")
"""Members that tell TorchScript from torch.save."""

MAX_CODE_BYTES: Final = 32 << 20
"""Bytes of code that are searched, and"""
MAX_FILES: Final = 5000
"""members: a traced model has one for each of its modules."""

_DEFINITION: Final = re.compile(r"^(?:class (\w+)|def \w+)\(", re.MULTILINE)
_KERNEL: Final = re.compile(r"\b(?:torch\.|ops\.quantized\.quantized_)rnn_(tanh|relu)(?:_cell(?:_dynamic)?)?\(")
_STEP: Final = re.compile(r"\btorch\.(tanh|relu)_?\(")
_MANGLED: Final = re.compile(r"___torch_mangle_\d+\.|^__torch__\.")


def read(path: Path) -> Contents:
    """Read the pickle inertly over storages mapped from the file, and the code as text.

    Raises:
        CheckpointError: an archive that torch.jit does not write, or of a frozen module.
    """
    archive = Archive(path)
    code = _Code(archive)
    contents = walk.walk(archive.unpickle("data.pkl", "data/"), archive.size, code.facts_of)
    constants = sum(name.startswith("constants/") for name in archive.members)
    if constants and not contents.containers:
        raise CheckpointError(
            f"{path}: TorchScript of a frozen module: its {constants} tensors are constants without names:"
            " save the module as it was before torch.jit.freeze or optimize_for_inference, or its state_dict"
        )
    skipped = (Skipped("constants", f"{constants} tensors without names"),) if constants else ()
    statements = (*contents.statements, *code.statements)
    return replace(contents, skipped=(*contents.skipped, *skipped), statements=statements)


class _Code:
    """What the text of an archive's code says of tanh and relu."""

    def __init__(self, archive: Archive) -> None:
        self._of_class: dict[str, Nonlinearity] = {}
        self.statements: list[tuple[str, Nonlinearity]] = []
        """By member."""
        names = (name for name in archive.members if name.startswith("code/") and name.endswith(".py"))
        for name, text in archive.texts(islice(names, MAX_FILES), MAX_CODE_BYTES):
            self._search(name, text)

    def facts_of(self, module: StandIn) -> ModuleFacts:
        """What a module's class, attributes and code say of it."""
        facts = walk.facts_of(module)
        nonlinearity = facts.nonlinearity or self._of_class.get(module.path)
        return ModuleFacts(_MANGLED.sub("", module.path), nonlinearity)

    def _search(self, member: str, text: str) -> None:
        kernels = set(_KERNEL.findall(text))
        self.statements += [(printable(member), cast("Nonlinearity", kernel)) for kernel in sorted(kernels)]
        package = member.removeprefix("code/").removesuffix(".py").replace("/", ".")
        for name, body in _classes(text):
            found = set(_KERNEL.findall(body))
            # Traced, a cell is its arithmetic.
            if not found and name == "RNNCell":
                found = set(_STEP.findall(body))
            if len(found) == 1:
                self._of_class[f"{package}.{name}"] = found.pop()


def _classes(text: str) -> list[tuple[str, str]]:
    """The classes that a member defines, and the text of each."""
    _, *parts = _DEFINITION.split(text)
    return [(name, body) for name, body in zip(parts[::2], parts[1::2], strict=True) if name]


def _recognizes(candidate: Candidate) -> bool:
    folder = folder_of(candidate)
    marks = {f"{folder}{mark}" for mark in MARKS}
    return bool(folder) and f"{folder}data.pkl" in candidate.names and bool(marks & candidate.names)


FORMAT: Final = Format("torchscript", _recognizes, read, written_back, suffixes=(".jit", ".pt", ".ts"))
