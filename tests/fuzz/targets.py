"""One target for each way in which a stranger's bytes reach a reader."""

from __future__ import annotations

import importlib
import io
import math
import pathlib
import random
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from safetensors.torch import save

from rnndiag import checkpoint
from rnndiag.checkpoint.contents import Container, Contents, KeyPath, StoredTensor, Unusable, in_memory
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.find import find
from rnndiag.checkpoint.layers.mapping import RoleMap, parse_map
from rnndiag.checkpoint.search import Search
from rnndiag.checkpoint.unpickling import walk
from rnndiag.checkpoint.unpickling.rebuild import Storage
from rnndiag.checkpoint.unpickling.unpickler import TensorUnpickler
from rnndiag.errors import CheckpointError
from rnndiag.parsers.worker import TASKS
from tests.fuzz import mutate
from tests.fuzz.oracle import BrokenError, check_words, examine, hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rnndiag.checkpoint.contents import Leaf


@dataclass(frozen=True, slots=True)
class Target:
    """What is done with an input, and how inputs are made out of others."""

    run: Callable[[bytes, pathlib.Path], None]
    mutate: Callable[[bytes, random.Random], bytes] | None = None
    max_len: int = 8192


def as_file(name: str) -> Callable[[bytes, pathlib.Path], None]:
    """The input is the file."""

    def run(data: bytes, folder: pathlib.Path) -> None:
        path = folder / name
        path.write_bytes(data)
        load(path)

    return run


def load(path: pathlib.Path, begins: pathlib.Path | None = None) -> None:
    """Load a file or folder as the command line does."""
    examine(lambda: checkpoint.load(path), f"{begins or path}: ")


def stored(members: dict[str, bytes]) -> bytes:
    """An archive as PyTorch's writer makes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


STORAGES: Final = {f"archive/data/{i}": bytes(range(64, 128)) * 4 for i in range(8)}


def run_torch_zip(data: bytes, folder: pathlib.Path) -> None:
    """The input is the pickle within an archive that is sound."""
    path = folder / "model.pt"
    path.write_bytes(stored({"archive/data.pkl": data, **STORAGES}))
    load(path)


def run_torchscript(data: bytes, folder: pathlib.Path) -> None:
    """The input is code, and after a zero byte the pickle, within an archive that is sound."""
    code, _, pickled = data.partition(b"\0")
    members = {
        "archive/data.pkl": pickled,
        "archive/code/__torch__/net.py": code,
        "archive/constants.pkl": b"\x80\x02).",
    }
    path = folder / "model.ts"
    path.write_bytes(stored(members | STORAGES))
    load(path)


class _Unpickler(TensorUnpickler):
    def storage(self, key: str, dtype: torch.dtype, nbytes: int) -> Storage:
        hold(nbytes >= 0, "a negative size is admitted")
        if nbytes > 1 << 16:
            raise torch.serialization.pickle.UnpicklingError("too large")
        data = torch.UntypedStorage(nbytes)
        return Storage(dtype, nbytes, lambda: data, lambda: "in memory")


def run_pickle(data: bytes, _folder: pathlib.Path) -> None:
    """The inert unpickler alone, and the walk over what it gives."""
    try:
        root = _Unpickler(io.BytesIO(data), reopen=lambda: io.BytesIO(data)).load()
        contents = walk.walk(root, 1 << 16)
    except MemoryError:
        raise
    except Exception:  # its caller makes one line of any
        return
    find(contents)


def run_names(data: bytes, _folder: pathlib.Path) -> None:
    """Lines of a name, a shape and a dtype: a state_dict in which anything may have any name."""
    contents = Contents(1 << 20, (Container(KeyPath(), dict(map(_entry, data.split(b"\n")[:60]))),))
    findings = find(contents)
    for word in (*findings.notes, *(text for each in findings.skipped for text in (each.name, each.reason))):
        hold(word.isprintable(), f"text is not printable: {word[:100]!r}")


_DTYPES: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64)
_NUMBERS: Final = torch.ones(1 << 12)


def _entry(line: bytes) -> tuple[str, Leaf]:
    name, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
    sizes, _, kind = rest.partition(" ")
    shape = tuple(int(size[:9]) for size in sizes.split(",")[:6] if size.isascii() and size.isdecimal())
    dtype = _DTYPES[len(kind) % len(_DTYPES)]
    if kind.startswith("!"):
        return name, Unusable(f"it is {kind[:20]!r}")

    def value() -> Tensor:
        return _NUMBERS.to(dtype)[0].expand(shape)

    return name, StoredTensor(shape, dtype, value) if math.prod(shape) > 1 << 16 else in_memory(value().contiguous())


_MAPPED: Final = {
    "enc.U": torch.ones(3, 9), "enc.W": torch.ones(2, 9), "enc.b": torch.ones(9), "enc.c": torch.ones(2, 9),
    "dec/0/hh": torch.ones(4, 4), "dec/0/ih": torch.ones(4, 2), "dec/1/hh": torch.ones(4, 4), "x": torch.ones(2),
}  # fmt: skip


def run_map(data: bytes, _folder: pathlib.Path) -> None:
    """The text of ``--map``, and its use."""
    maps: list[RoleMap] = []

    def read() -> None:
        maps.append(parse_map(data.decode("utf-8", "replace")))

    examine(read, "--map ")
    if maps:
        findings = find(
            Contents(1 << 20, (Container(KeyPath(), {name: in_memory(tensor) for name, tensor in _MAPPED.items()}),)),
            Answers(maps=tuple(maps)),
        )
        for word in (*findings.notes, *findings.unmatched):
            hold(word.isprintable(), f"text is not printable: {word[:100]!r}")


def run_safetensors_header(data: bytes, folder: pathlib.Path) -> None:
    """The input is the header, before numbers that are sound."""
    path = folder / "model.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(range(64, 128)) * 8)
    load(path)


def run_tar(data: bytes, folder: pathlib.Path) -> None:
    """The input is a tar archive whose checksums are put right."""
    path = folder / "model.tar"
    path.write_bytes(checked(data))
    load(path)


def checked(data: bytes) -> bytes:
    """A tar archive with the checksum that each header should have."""
    fixed, at = bytearray(data), 0
    while at + 512 <= len(fixed):
        header = fixed[at : at + 512]
        header[148:156] = b" " * 8
        if any(header[:148]):
            header[148:156] = b"%06o\0 " % sum(header)
            fixed[at : at + 512] = header
        try:
            size = tarfile.nti(bytes(header[124:136]))  # type: ignore[attr-defined]  # not in typeshed
        except tarfile.TarError:
            size = 0
        at += 512 * (1 + max(0, -(-size // 512)))
    return bytes(fixed)


def run_nested(data: bytes, folder: pathlib.Path) -> None:
    """The input is a member of a sound archive: a model, an archive or anything else, next to a sound model."""
    path = folder / "model.whl"
    sound = save({"rnn.weight_ih_l0": torch.ones(2, 1), "rnn.weight_hh_l0": torch.ones(2, 2)})
    path.write_bytes(stored({"data/inner": data, "data/sound": sound}))
    try:
        model = checkpoint.load(path)
    except CheckpointError as error:
        raise BrokenError(f"the sound model is not read: {error}") from error
    check_words(model)


def run_search(data: bytes, folder: pathlib.Path) -> None:
    """The input is a file of a folder: a search finds it or not, and what it finds is read or refused."""
    here = folder / "here"
    here.mkdir(exist_ok=True)
    path = here / "model"
    path.write_bytes(data)
    for found in Search("here").models_in(here):
        hold(found == path, f"another file is found: {found}")
        load(path)


def run_index(data: bytes, folder: pathlib.Path) -> None:
    """The input is the index of shards, one of which is there."""
    path = folder / "model.safetensors.index.json"
    path.write_bytes(data)
    shard = folder / "model-00001-of-00002.safetensors"
    if not shard.exists():
        shard.write_bytes(save({"rnn.weight_ih_l0": torch.ones(2, 1), "rnn.weight_hh_l0": torch.ones(2, 2)}))
    load(path)


DISTCP: Final = pathlib.Path(__file__).parent / "seeds" / "distcp" / "rnn"


def run_metadata(data: bytes, folder: pathlib.Path) -> None:
    """The input is the metadata of a distributed checkpoint whose one data file is sound."""
    here = folder / "run"
    here.mkdir(exist_ok=True)
    (here / ".metadata").write_bytes(data)
    (here / "__0_0.distcp").write_bytes(DISTCP.read_bytes())
    load(here)


KERAS_WEIGHTS: Final = pathlib.Path(__file__).parents[1] / "parsers" / "keras2" / "chain_weights.h5"


def run_parser(name: str, beside: pathlib.Path | None = None) -> Callable[[bytes, pathlib.Path], None]:
    """The input is a file for a parser that runs in a process of its own, where any exception is a refusal.

    Args:
        name: of the parser.
        beside: a file of weights that is sound; the input is then the configuration next to it.
    """

    module = importlib.import_module(TASKS[name][0])  # now, to be instrumented

    def run(data: bytes, folder: pathlib.Path) -> None:
        path = folder / "model"
        if beside is not None:
            path.write_bytes(beside.read_bytes())
            (folder / "model.json").write_bytes(data)
        else:
            path.write_bytes(data)
        try:
            module.parse(path)
        except MemoryError:
            raise
        except Exception:  # the worker makes one line of any
            return

    return run


TARGETS: Final[dict[str, Target]] = {
    "pickle": Target(run_pickle, mutate.pickled, 4096),
    "torch-zip": Target(run_torch_zip, mutate.pickled, 4096),
    "torch-zip-raw": Target(as_file("model.pt")),
    "torch-legacy": Target(as_file("model.pt"), mutate.pickled),
    "torchscript": Target(run_torchscript, mutate.script, 8192),
    "torchscript-raw": Target(as_file("model.ts"), max_len=16384),
    "safetensors": Target(as_file("model.safetensors"), max_len=4096),
    "safetensors-header": Target(run_safetensors_header, mutate.json_like, max_len=4096),
    "zip": Target(as_file("model.zip"), max_len=16384),
    "tar": Target(run_tar, max_len=16384),
    "tar-compressed": Target(as_file("model.tgz"), max_len=4096),
    "nested": Target(run_nested, max_len=16384),
    "search": Target(run_search, max_len=4096),
    "plain-pickle": Target(as_file("model.pkl"), mutate.pickled),
    "joblib": Target(as_file("model.joblib"), mutate.pickled),
    "msgpack": Target(as_file("model.msgpack"), mutate.msgpack, 4096),
    "names": Target(run_names, mutate.lines, 2048),
    "npz": Target(as_file("model.npz"), max_len=4096),
    "torch-export": Target(as_file("model.pt2"), max_len=32768),
    "index": Target(run_index, mutate.json_like, max_len=2048),
    "metadata": Target(run_metadata, mutate.pickled, 4096),
    "onnx": Target(run_parser("onnx"), max_len=8192),
    "keras": Target(run_parser("keras"), max_len=32768),
    "keras-config": Target(run_parser("keras", KERAS_WEIGHTS), mutate.json_like, max_len=16384),
    "map": Target(run_map, mutate.mapping, 512),
}
