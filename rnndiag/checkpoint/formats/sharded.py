"""A model in several files of one folder, and the index that says which tensor lies in which."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from rnndiag.checkpoint.contents import (
    MAX_NAME_CHARACTERS,
    MAX_TENSORS,
    Container,
    Contents,
    KeyPath,
    Leaf,
    common_framework,
)
from rnndiag.checkpoint.formats import safetensors, torch_legacy, torch_zip
from rnndiag.checkpoint.formats.base import Candidate, Format
from rnndiag.checkpoint.formats.unknown import describe
from rnndiag.errors import CheckpointError
from rnndiag.files.text import listing
from rnndiag.files.work_budget import current_budget
from rnndiag.printable import printable

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator

SUFFIX: Final = ".index.json"
MAX_INDEX_BYTES: Final = 32 << 20
"""Bytes of an index, some 100 a tensor."""
MAX_SHARDS: Final = 1000
UNITS_PER_FILE: Final = 500
"""Units of the work budget."""

SHARDS: Final = (safetensors.FORMAT, torch_zip.FORMAT, torch_legacy.FORMAT)
"""What a shard may be."""


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def read(path: pathlib.Path) -> Contents:
    """Read the shards that an index names as one container.

    Args:
        path: the index.

    Raises:
        CheckpointError: an index or a shard that is missing, damaged, elsewhere, or does not hold what it should.
    """
    size = path.stat().st_size
    if size > MAX_INDEX_BYTES:
        raise CheckpointError(f"{path}: an index of {size:,} bytes, more than any model needs")
    index = msgspec.json.decode(path.read_bytes(), type=_Index)
    names = defaultdict(list)
    for tensor, name in index.weight_map.items():
        names[name].append(tensor)
    if len(names) > MAX_SHARDS or len(index.weight_map) > MAX_TENSORS:
        raise CheckpointError(
            f"{path}: {len(index.weight_map):,} tensors in {len(names):,} shards, more than any model has"
        )
    shards = [locate(path, path.parent, name) for name in names]
    tensors: dict[str, Leaf] = {}
    parts = []
    for shard, wanted in zip(shards, names.values(), strict=True):
        parts.append(read_part(path, shard))
        tensors |= _pick(path, shard, parts[-1], wanted)
    in_order = {name: tensors[name] for name in index.weight_map}
    statements = dict.fromkeys(statement for part in parts for statement in part.statements)
    return Contents(
        sum(part.size for part in parts),
        (Container(KeyPath(), in_order),),
        statements=tuple(statements),
        framework=common_framework(parts),
    )


def parts(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The shards that an index names; none where the index is refused."""
    if path.stat().st_size > MAX_INDEX_BYTES:
        return
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
    except msgspec.MsgspecError:
        return
    for name in dict.fromkeys(index.weight_map.values()):
        if not any(c in name for c in "/\\\0"):
            yield path.parent / name


def locate(path: pathlib.Path, folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file ``name`` of a folder, which the model at ``path`` consists of.

    Raises:
        CheckpointError: not a plain name, not there, or a link that leads out of the folder.
    """
    shown = printable(name, 100)
    if not name or len(name) > MAX_NAME_CHARACTERS or name in (".", "..") or any(c in name for c in "/\\\0"):
        raise CheckpointError(f"{path}: expected the name of a file in the same folder, got {shown!r}")
    file = folder / name
    if not os.path.lexists(file):
        raise CheckpointError(f"{path}: {shown} is missing: copy all files of the model into one folder")
    target = file.resolve()
    if target.parent not in homes(folder.resolve()):
        raise CheckpointError(f"{path}: {shown} is a link that leads out of the folder; only files in it are read")
    return file


def homes(folder: pathlib.Path) -> Iterable[pathlib.Path]:
    """Where the files of a folder may lie: there, or for a snapshot in the cache of the Hugging Face hub beside it."""
    yield folder
    if folder.parent.name == "snapshots":
        yield folder.parent.parent / "blobs"


def read_part(path: pathlib.Path, file: pathlib.Path, formats: Iterable[Format] = SHARDS) -> Contents:
    """The contents of a file that the model at ``path`` consists of.

    Raises:
        CheckpointError: it is refused, in one line that begins with ``path``.
    """
    current_budget().spend(UNITS_PER_FILE)
    try:
        candidate = Candidate(file)
        for each in formats:
            if each.recognizes(candidate):
                return each.read(file)
        reason = f"{describe(candidate)}; expected {listing([each.name for each in formats])}"
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{file}: ")
    except Exception as error:  # as varied as in any damaged file; this one is to be named
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
    raise CheckpointError(f"{path}: {printable(file.name, 100)}: {reason}")


def _pick(path: pathlib.Path, shard: pathlib.Path, part: Contents, wanted: list[str]) -> dict[str, Leaf]:
    held = {name: leaf for each in part.containers if not each.path.parts for name, leaf in each.tensors.items()}
    absent = [printable(name, 100) for name in wanted if name not in held]
    if absent:
        raise CheckpointError(
            f"{path}: {printable(shard.name, 100)} does not hold {listing(absent, 3)}, which the index puts there:"
            " the shards are not of one model"
        )
    return {name: held[name] for name in wanted}


def _recognizes(candidate: Candidate) -> bool:
    is_json = candidate.head.lstrip().startswith(b"{")
    return is_json and (candidate.path.name.endswith(SUFFIX) or b'"weight_map"' in candidate.head)


def _name_the_folder(path: pathlib.Path) -> str:
    del path
    return "name the folder that it is in"


FORMAT: Final = Format("sharded", _recognizes, read, save_instead=_name_the_folder, parts=parts)
