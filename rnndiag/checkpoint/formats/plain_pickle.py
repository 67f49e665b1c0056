"""Pickles that torch.save did not write, and the files of joblib: Python objects that hold arrays and tensors.

A pickled tensor holds a whole torch file as a string of bytes; so does a net of skorch. joblib writes the numbers of an
array into the midst of the pickle, right after the object that describes the array.
"""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from rnndiag.checkpoint.contents import Unusable
from rnndiag.checkpoint.formats import torch_legacy
from rnndiag.checkpoint.formats.base import HEAD_BYTES, MAX_MENTION_BYTES, Candidate, Format, MemberCandidate, mentions
from rnndiag.checkpoint.formats.numpy import max_unpacked_bytes
from rnndiag.checkpoint.formats.torch_archive import Archive
from rnndiag.checkpoint.unpickling import ndarray
from rnndiag.checkpoint.unpickling.blob import Blob, ByteString, byte_string
from rnndiag.checkpoint.unpickling.counts import are_counts
from rnndiag.checkpoint.unpickling.rebuild import Rebuild, Storage
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.checkpoint.unpickling.unpickler import RestrictedUnpickler, TensorUnpickler
from rnndiag.checkpoint.unpickling.walk import walk
from rnndiag.errors import CheckpointError, UnreadableError
from rnndiag.files.compressed import CHUNK_BYTES, beginning, content, is_compressed
from rnndiag.files.work_budget import current_budget
from rnndiag.files.zip import SIGNATURE as ZIP
from rnndiag.files.zip import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rnndiag.checkpoint.contents import Contents, Leaf
    from rnndiag.checkpoint.unpickling.blob import Coding, File

PROTOCOLS: Final = range(2, 6)
"""Protocols that begin with their number. Protocols 0 and 1 do not."""

UNITS_PER_PICKLE: Final = 100
UNITS_PER_FILE: Final = 200
"""Units of the work budget for each pickle of a file, and for each torch file within a pickle."""

_WRAPPER: Final = re.compile(r"(?:sklearn\.externals\.)?joblib\.numpy_pickle\.NumpyArrayWrapper")
_OTHER_FILES: Final = re.compile(r"(?:sklearn\.externals\.)?joblib\.numpy_pickle(?:_compat)?\.Z?NDArrayWrapper")

_TEXT: Final = re.compile(
    rb"\([ld](?:p[0-9]+\n|q[\x00\x01]|[SVUXI(])"  # a list or dict
    rb"|[\]}]q[\x00\x01]"
    rb"|\(?c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n(?:p[0-9]+\n|q[\x00\x01]|[()oR])"  # an object of a class
    rb"|\(i[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n"
    rb"|\(S['\"]"  # a tuple
)
"""How protocols 0 and 1 begin."""


def _recognizes(candidate: Candidate) -> bool:
    head = candidate.head
    if is_pickle(head):
        return True
    if not is_compressed(head):
        return False
    with candidate.opened() as file:
        return is_pickle(beginning(file, HEAD_BYTES))


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins like this is a pickle, and not one of torch.save's."""
    if head[:1] != pickle.PROTO:
        return bool(_TEXT.match(head))
    known = len(head) > 2 and head[1] in PROTOCOLS and head[2] in RestrictedUnpickler.operations
    return known and not torch_legacy.is_legacy(head)


def read(path: Path) -> Contents:
    """Read the pickles of a file inertly, one after the other; arrays and tensors are read when a layer needs them.

    Raises:
        CheckpointError: a compressed file that is damaged, or unpacks to more than a model of its size does.
        pickle.UnpicklingError: a pickle is damaged, or asks for something that no model needs.
    """
    with path.open("rb") as file:
        is_plain = is_pickle(file.read(HEAD_BYTES))
    size = path.stat().st_size
    if is_plain:
        reopen: Callable[[], BinaryIO] = lambda: path.open("rb")  # noqa: E731
    else:
        try:
            data = content(path, max_unpacked_bytes(size))
        except UnreadableError as error:
            raise CheckpointError(f"{path}: {error}") from error
        size, reopen = len(data), partial(io.BytesIO, data)
    found = _Embedded(path if is_plain else None)
    roots: list[Any] = []
    knows_torch = False
    with reopen() as file:
        while not roots or file.tell() < size:
            current_budget().spend(UNITS_PER_PICKLE)
            unpickler = _Unpickler(file, reopen, found)
            roots.append(unpickler.load())
            knows_torch |= unpickler.knows_torch
    contents = walk(roots[0] if len(roots) == 1 else roots, size, embedded=found.object_in)
    return replace(contents, framework="PyTorch" if knows_torch else "")


def _instead(path: Path) -> str:
    del path
    return "save it with torch.save, or as .safetensors"


_ARRAYS: Final = (b"numpy", b"torch")
"""Modules of the functions that make arrays and tensors."""


def _may_hold_arrays(candidate: Candidate) -> bool:
    if not is_compressed(candidate.head):
        return mentions(*_ARRAYS)(candidate)
    is_cut = candidate.size > HEAD_BYTES and isinstance(candidate, MemberCandidate)
    if is_cut or candidate.size > CHUNK_BYTES:  # what comes late is not seen
        return True
    with candidate.opened() as file:
        content = beginning(file, MAX_MENTION_BYTES)
    return any(each in content for each in _ARRAYS)


FORMAT: Final = Format("pickle", _recognizes, read, _instead, searched=_may_hold_arrays, is_general=True)


class _Embedded:
    """The torch files within a pickle, each read once.

    Args:
        path: the file of the pickle; None if it is not on the disk as it is.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[int, tuple[object, object]] = {}

    def object_in(self, value: object) -> object:
        """What a string of bytes holds that is a torch file; None if it is no such file.

        Raises:
            pickle.UnpicklingError: the torch file is damaged.
        """
        if id(value) not in self._known:
            found = byte_string(value)
            self._known[id(value)] = value, None if found is None else self._read(found)
        return self._known[id(value)][1]

    def _read(self, found: ByteString) -> object:
        current_budget().spend(UNITS_PER_FILE)
        blob, path = found.blob, self._path
        if blob is not None and path is not None:
            reopen: Callable[[], BinaryIO] = lambda: io.BufferedReader(Part(path, blob.start, blob.size))  # noqa: E731
            size = blob.size
        else:
            data = found.read()
            reopen, size = partial(io.BytesIO, data), len(data)
        with reopen() as file:
            head = file.read(HEAD_BYTES)
        if torch_legacy.is_legacy(head):
            return torch_legacy.unpickle(reopen, size)
        if not head.startswith(ZIP):
            return None
        if blob is None or path is None:
            return Unusable("a torch file within a compressed pickle: decompress it first")
        return Archive(path, blob.start, blob.size).unpickle("data.pkl", "data/")


def is_torch_file(head: bytes) -> bool:
    """Whether a string of bytes that begins like this may be a torch file."""
    return head.startswith(ZIP) or torch_legacy.is_legacy(head)


class _Unpickler(TensorUnpickler):
    """A pickle whose tensors are torch files within it."""

    def __init__(self, file: BinaryIO, reopen: Callable[[], File], embedded: _Embedded) -> None:
        super().__init__(file, reopen=reopen)
        self._embedded = embedded
        self.knows_torch = False

    def find_class(self, module: str, name: str) -> Any:
        """Also the function that makes a tensor's storage from a torch file."""
        self.knows_torch |= module.partition(".")[0] == "torch"
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return Rebuild(self._storage_in)
        return super().find_class(module, name)

    def storage(self, key: str, dtype: Any, nbytes: int) -> Storage:
        """None: a plain pickle refers to no other data."""
        del key, dtype, nbytes
        raise pickle.UnpicklingError(
            "its tensors are in other files: it is a part of a torch file, of which the whole is needed"
        )

    def _storage_in(self, data: object) -> object:
        found = self._embedded.object_in(data)
        return found if isinstance(found, Storage) else StandIn("torch.storage", "_load_from_bytes")

    def _string(self, width: int, coding: Coding) -> None:
        super()._string(width, coding)
        data = self.stack[-1]
        if isinstance(data, bytes) and is_torch_file(data):
            self.stack[-1] = Blob("bytes", self._file.tell() - len(data), len(data), self._reopen)

    def _build(self) -> None:
        super()._build()
        part = self.stack[-1]
        if not isinstance(part, StandIn) or not isinstance(part.state, dict):
            return
        if _WRAPPER.fullmatch(part.path):
            self.stack[-1] = self._array(part.state)
        elif _OTHER_FILES.fullmatch(part.path):
            self.stack[-1] = Unusable("its numbers are in another file: save it with joblib 0.10 or later")

    def _array(self, described: dict[str, object]) -> Leaf:
        """The array that follows in the file, which is skipped.

        Raises:
            pickle.UnpicklingError: a description that is not joblib's.
        """
        shape = described.get("shape")
        if not are_counts(shape):
            raise pickle.UnpicklingError("the shape of an array is malformed")
        kind = ndarray.number_type(described.get("dtype"))
        if isinstance(kind, Unusable) and kind.reason == ndarray.OBJECT_ARRAY:
            RestrictedUnpickler(self._file, self._file.left).load()
            return kind
        if isinstance(kind, Unusable):
            raise pickle.UnpicklingError(f"{kind.reason}; what follows it is not found")
        if described.get("numpy_array_alignment_bytes") is not None:
            self._file.skip(self.read(1)[0])
        blob = Blob("bytes", self._file.tell(), ndarray.bytes_of(kind, shape), self._reopen)
        self._file.skip(blob.size)
        return ndarray.stored(
            kind, shape, ByteString(blob.size, blob.size, blob.read), is_fortran=described.get("order") == "F"
        )

    operations = TensorUnpickler.operations | {pickle.BUILD[0]: _build}
