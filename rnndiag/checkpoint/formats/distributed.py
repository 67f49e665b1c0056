"""Folders of torch.distributed.checkpoint: tensors in chunks, one or more files for each process that wrote them.

``.metadata`` is a pickle of dataclasses (``torch.distributed.checkpoint.metadata``), read inertly; each chunk is an
archive of torch.save somewhere in a ``.distcp`` file, and is read when a layer needs it.
"""

from __future__ import annotations

import math
import pickle
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch

from rnndiag.checkpoint.contents import MAX_TENSORS, Chunk, Leaf, StoredTensor, Unusable, assemble
from rnndiag.checkpoint.formats.base import Candidate, Format, written_back
from rnndiag.checkpoint.formats.safetensors import DTYPES as STORED
from rnndiag.checkpoint.formats.sharded import MAX_SHARDS, locate
from rnndiag.checkpoint.formats.torch_archive import Archive
from rnndiag.checkpoint.unpickling.counts import is_count, is_short
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.checkpoint.unpickling.unpickler import RestrictedUnpickler
from rnndiag.checkpoint.unpickling.walk import walk
from rnndiag.errors import CheckpointError
from rnndiag.files.parts import files_beneath
from rnndiag.files.text import shape_of
from rnndiag.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rnndiag.checkpoint.contents import Contents
    from rnndiag.checkpoint.location import Location

METADATA: Final = ".metadata"
PACKAGE: Final = "torch.distributed.checkpoint.metadata"
MAX_DIMENSIONS: Final = 64
DTYPES: Final = {str(dtype).removeprefix("torch."): dtype for dtype in STORED.values()}

_Size = tuple[int, ...]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A box within a tensor, and where its numbers lie."""

    offsets: _Size
    sizes: _Size
    file: Path
    start: int
    length: int

    def leaf(self, dtype: torch.dtype) -> StoredTensor:
        """Its numbers, whose archive is opened when they are read."""
        return StoredTensor(self.sizes, dtype, partial(_numbers, self, dtype), partial(_location, self))


def read(path: Path) -> Contents:
    """Read what the metadata say of each tensor, and look for its files in the folder.

    Raises:
        CheckpointError: metadata that do not fit together, or a file that is missing or elsewhere.
        pickle.UnpicklingError: metadata that are damaged.
    """
    if not (path / METADATA).exists():
        raise CheckpointError(
            f"{path}: a distributed checkpoint with metadata for each process alone, which are not read:"
            " save it without use_collectives=False"
        )
    metadata = Candidate(locate(path, path, METADATA)).path
    with metadata.open("rb") as file:
        root = _Unpickler(file).load()
    if not isinstance(root, StandIn) or root.path != f"{PACKAGE}.Metadata":
        raise CheckpointError(f"{path}: expected the metadata of torch.distributed.checkpoint in {METADATA}")
    tensors = _field(root, "state_dict_metadata", dict)
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{path}: it holds {len(tensors):,} tensors, more than any model has")
    storage = _Storage(path, _field(root, "storage_data", dict))
    places = _state(root).get("planner_data")
    saved = _Nested()
    for name, described in tensors.items():
        keys = places.get(name) if isinstance(places, dict) else None
        saved.plant(_keys(keys) or (name,), storage.leaf(name, described))
    return walk(saved.root, storage.size, tensor_counters=False)


class _Unpickler(RestrictedUnpickler):
    """Keeps the keys of ``storage_data``, which are objects: nothing but strings is hashed."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._pairs = 0

    def _fill(self, items: list[Any]) -> None:
        for i in range(0, len(items) - 1, 2):
            if isinstance(items[i], StandIn):
                self._pairs += 1
                items[i : i + 2] = f"pair {self._pairs}", (items[i], items[i + 1])
        super()._fill(items)


class _Nested:
    """The nested dict that was saved, from its leaves."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._left = MAX_TENSORS

    def plant(self, keys: tuple[str, ...], leaf: Leaf | None) -> None:
        """Put a leaf in its place; where another one is in the way, under all its keys joined."""
        branch = self.root
        for key in keys[:-1]:
            if key not in branch:
                self._left -= 1
                branch[key] = {}
            branch = branch[key]
            if not isinstance(branch, dict) or self._left < 0:
                break
        else:
            if keys[-1] not in branch:
                branch[keys[-1]] = leaf
                return
        name = ".".join(keys)
        self.root[f"{name}#{len(self.root)}" if name in self.root else name] = leaf


class _Storage:
    """The files of a folder, by what lies in them."""

    def __init__(self, path: Path, pairs: dict[str, object]) -> None:
        self._path = path
        self._files: dict[str, tuple[Path, int]] = {}
        self._places: defaultdict[str, list[tuple[_Size | None, StandIn]]] = defaultdict(list)
        for pair in pairs.values():
            if not isinstance(pair, tuple) or not isinstance(pair[0], StandIn) or not isinstance(pair[1], StandIn):
                raise pickle.UnpicklingError("an entry of storage_data is malformed")
            index, place = pair
            offset = _state(index).get("offset")
            self._places[_field(index, "fqn", str)].append((None if offset is None else _size(offset), place))

    @property
    def size(self) -> int:
        """Bytes of all files that hold tensors."""
        return sum(size for _, size in self._files.values())

    def leaf(self, name: str, described: object) -> Leaf | None:
        """A tensor to be read later; None for anything else that was saved."""
        if not isinstance(described, StandIn) or described.path != f"{PACKAGE}.TensorStorageMetadata":
            return None
        shape, dtype = _size(_field(described, "size", StandIn)), _dtype(_field(described, "properties", StandIn))
        if not isinstance(dtype, torch.dtype):
            return Unusable(f"numbers of type {dtype}")
        chunks = []
        for chunk in _field(described, "chunks", list):
            found = self._chunk(name, chunk)
            if isinstance(found, Unusable):
                return found
            chunks.append(found)
        problem = _problem(shape, dtype, chunks)
        if problem:
            return Unusable(problem)
        parts = tuple(Chunk(chunk.offsets, chunk.leaf(dtype)) for chunk in chunks)
        return StoredTensor(shape, dtype, partial(assemble, shape, dtype, parts), lambda: parts)

    def _chunk(self, name: str, described: object) -> _Chunk | Unusable:
        if not isinstance(described, StandIn):
            raise pickle.UnpicklingError("a chunk is malformed")
        offsets, sizes = (_size(_field(described, key, StandIn)) for key in ("offsets", "sizes"))
        places = [place for offset, place in self._places.get(name, []) if offset in (None, offsets)]
        if len(places) != 1:
            return Unusable(f"its chunk at {shape_of(offsets)} lies in {len(places)} places, expected one")
        if _state(places[0]).get("transform_descriptors"):
            return Unusable("its chunks are compressed, which is not read: save it without an extension")
        file, size = self._file(_field(places[0], "relative_path", str))
        start, length = (_field(places[0], key, int) for key in ("offset", "length"))
        if not is_count(start) or not is_count(length) or start + length > size:
            return Unusable(f"its chunk at {shape_of(offsets)} lies beyond the end of {printable(file.name, 60)}")
        return _Chunk(offsets, sizes, file, start, length)

    def _file(self, name: str) -> tuple[Path, int]:
        if name not in self._files:
            if len(self._files) >= MAX_SHARDS:
                raise CheckpointError(f"{self._path}: more than {MAX_SHARDS} files, which no model needs")
            candidate = Candidate(locate(self._path, self._path, name))
            self._files[name] = candidate.path, candidate.size
        return self._files[name]


def _problem(shape: _Size, dtype: torch.dtype, chunks: list[_Chunk]) -> str:
    """What keeps the chunks from being a tensor of ``shape``; empty if nothing seems to."""
    for chunk in chunks:
        if len(chunk.offsets) != len(shape) or len(chunk.sizes) != len(shape):
            return f"a chunk has {len(chunk.sizes)} dimensions, expected {len(shape)}"
        if any(o + s > n for o, s, n in zip(chunk.offsets, chunk.sizes, shape, strict=True)):
            return f"its chunk {shape_of(chunk.sizes)} at {shape_of(chunk.offsets)} is not within {shape_of(shape)}"
        if math.prod(chunk.sizes) * dtype.itemsize > chunk.length:
            return f"its chunk {shape_of(chunk.sizes)} is larger than the {chunk.length} bytes that hold it"
    if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(shape):
        return f"its chunks do not fill {shape_of(shape)}"
    return ""


def _opened(chunk: _Chunk) -> object:
    """What a chunk's archive holds."""
    try:
        return Archive(chunk.file, chunk.start, chunk.length).unpickle("data.pkl", "data/")
    except CheckpointError as error:  # of the file; the user named the folder
        reason = str(error).removeprefix(f"{chunk.file}: ")
        raise CheckpointError(f"{chunk.file.parent}: {printable(chunk.file.name, 60)}: {reason}") from error


def _numbers(chunk: _Chunk, dtype: torch.dtype) -> Tensor | Unusable:
    leaf = _opened(chunk)
    if not isinstance(leaf, StoredTensor):
        return leaf if isinstance(leaf, Unusable) else Unusable("its chunk holds no tensor")
    if leaf.dtype != dtype or leaf.shape != chunk.sizes:
        expected, got = (f"{shape_of(s)} of {t}" for s, t in ((chunk.sizes, dtype), (leaf.shape, leaf.dtype)))
        return Unusable(f"expected a chunk {expected}, got {got}")
    return leaf.read()


def _location(chunk: _Chunk) -> Location | tuple[Chunk, ...] | str:
    leaf = _opened(chunk)
    return leaf.locate() if isinstance(leaf, StoredTensor) else "its chunk holds no tensor"


def _state(part: StandIn) -> dict[str, Any]:
    return part.state if isinstance(part.state, dict) else {}


def _field(part: StandIn, name: str, kind: type[_T]) -> _T:
    value = _state(part).get(name)
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"{printable(part.name, 60)}.{name}: expected a {kind.__name__}")
    return value


def _size(part: StandIn) -> _Size:
    """What ``torch.Size`` was called with."""
    sizes = part.args[0] if len(part.args) == 1 else None
    if part.path != "torch.Size" or not isinstance(sizes, tuple) or len(sizes) > MAX_DIMENSIONS:
        raise pickle.UnpicklingError("a torch.Size is malformed")
    if not all(map(is_count, sizes)):
        raise pickle.UnpicklingError("a torch.Size of other things than counts")
    return sizes


def _dtype(properties: StandIn) -> torch.dtype | str:
    state = properties.state
    named = state[0] if isinstance(state, tuple) and state else None
    if not isinstance(named, StandIn) or named.module != "torch":
        raise pickle.UnpicklingError("the properties of a tensor are malformed")
    return DTYPES.get(named.name, printable(named.name, 60))


def _keys(path: object) -> tuple[str, ...]:
    """A path in the nested dict that was saved, as the planner noted it; empty if it is none."""
    if not isinstance(path, tuple) or len(path) > MAX_DIMENSIONS:
        return ()
    keys = tuple(str(key) if isinstance(key, int) and is_count(key) else key for key in path)
    return keys if all(is_short(key) for key in keys) else ()


def _recognizes(candidate: Candidate) -> bool:
    # Saved without collectives, each process has its own: __0.metadata.
    return candidate.is_folder and any(name.endswith(METADATA) for name in candidate.names)


FORMAT: Final = Format("distributed", _recognizes, read, written_back, parts=files_beneath)
