"""One small valid model for each format of the registry. A new format gets an entry in ``FILES``."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from tests.builders.pickled_files import joblib_bytes
from tests.builders.torch_export_files import present, pt2_of_2_8, zip_of_2_4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[[Path], Path]
    """Writes a model into an empty folder, and returns its path: a file, or the folder itself."""


def state() -> dict[str, torch.Tensor]:
    return nn.RNN(1, 2, bias=False).state_dict()


def torch_file(folder: Path) -> Path:
    torch.save(state(), folder / "model.pt")
    return folder / "model.pt"


def legacy_file(folder: Path) -> Path:
    torch.save(state(), folder / "model.pt", _use_new_zipfile_serialization=False)
    return folder / "model.pt"


def script(folder: Path) -> Path:
    torch.jit.save(torch.jit.script(nn.RNN(1, 2, bias=False)), folder / "model.pt")
    return folder / "model.pt"


def export(write: Callable[[torch.export.ExportedProgram, Path], None]) -> Build:
    def build(folder: Path) -> Path:
        write(torch.export.export(nn.RNN(1, 2), (torch.zeros(3, 1),)), folder / "model.pt2")
        return folder / "model.pt2"

    return build


def safetensors_file(folder: Path) -> Path:
    save_file(state(), folder / "model.safetensors")
    return folder / "model.safetensors"


def shards(folder: Path) -> Path:
    hub = pytest.importorskip("huggingface_hub", exc_type=ImportError)
    hub.save_torch_state_dict(state(), folder, max_shard_size=16)
    return folder / "model.safetensors.index.json"


def hub_folder(folder: Path) -> Path:
    hub = pytest.importorskip("huggingface_hub", exc_type=ImportError)
    hub.save_torch_state_dict(state(), folder)
    (folder / "config.json").write_text('{"nonlinearity": "relu"}', encoding="utf-8")
    return folder


def distributed_folder(folder: Path) -> Path:
    dcp.save({"rnn": state()}, checkpoint_id=folder, no_dist=True)
    return folder


def numpy_archive(save: Callable[..., None]) -> Build:
    def build(folder: Path) -> Path:
        save(folder / "model.npz", **{name: tensor.numpy() for name, tensor in state().items()})
        return folder / "model.npz"

    return build


def numpy_file(folder: Path) -> Path:
    np.save(folder / "model.npy", np.ones((2, 2), np.float32))
    return folder / "model.npy"


def keras_archive(folder: Path) -> Path:
    pytest.importorskip("h5py")
    from tests.builders.keras_files import archive_of

    weights = keras_hdf5(folder)
    content = weights.read_bytes()
    weights.unlink()
    return archive_of(folder / "model.keras", "{}", content)


def keras_hdf5(folder: Path) -> Path:
    pytest.importorskip("h5py")
    from tests.builders.keras_files import model

    with model(folder / "model.h5"):
        return folder / "model.h5"


def onnx_file(folder: Path) -> Path:
    pytest.importorskip("onnx")
    from tests.builders.onnx_files import constant, graph, operator, weights, write

    body = graph([constant("x", np.zeros(1)), operator("RNN")], weights("RNN"))
    return write(folder / "model.onnx", body)


def pickle_file(dump: Callable[[object], bytes], *, tensors: bool = False) -> Build:
    def build(folder: Path) -> Path:
        held = state() if tensors else {name: tensor.numpy() for name, tensor in state().items()}
        (folder / "model.pkl").write_bytes(dump(held))
        return folder / "model.pkl"

    return build


def msgpack_file(folder: Path) -> Path:
    pytest.importorskip("msgpack")
    from tests.builders.msgpack_files import msgpack_bytes

    tree = {"params": {name: tensor.numpy() for name, tensor in state().items()}}
    (folder / "model.msgpack").write_bytes(msgpack_bytes(tree))
    return folder / "model.msgpack"


FILES: Final[dict[str, dict[str, Build]]] = {
    "torch": {"": torch_file},
    "torch-legacy": {"": legacy_file},
    "torchscript": {"": script},
    "torch-export": {"": export(present), "2.8": export(pt2_of_2_8), "2.4": export(zip_of_2_4)},
    "safetensors": {"": safetensors_file},
    "sharded": {"": shards},
    "huggingface": {"": hub_folder},
    "distributed": {"": distributed_folder},
    "npz": {"stored": numpy_archive(np.savez), "compressed": numpy_archive(np.savez_compressed)},
    "npy": {"": numpy_file},
    "keras": {"": keras_archive},
    "keras-h5": {"": keras_hdf5},
    "onnx": {"": onnx_file},
    "msgpack": {"": msgpack_file},
    "pickle": {
        "": pickle_file(pickle.dumps),
        "text": pickle_file(partial(pickle.dumps, protocol=0)),
        "tensors": pickle_file(pickle.dumps, tensors=True),
        "joblib": pickle_file(joblib_bytes),
    },
}
"""By the name of the format, then of its layout."""
