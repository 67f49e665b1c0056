"""``python -m tests.fuzz.seeds``: write the inputs that fuzzing starts from, small real files and parts of such."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import torch
import torch.distributed.checkpoint as distributed
from safetensors.torch import save as save_tensors
from torch import nn

from tests.builders.msgpack_files import in_pieces, msgpack_bytes
from tests.builders.pickled_files import joblib_bytes, module_of
from tests.builders.unread_files import UNREAD_FILES
from tests.fuzz import mutate

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS: Final = Path(__file__).with_name("seeds")


def contents() -> dict[str, Any]:
    """What the files hold."""
    torch.manual_seed(0)
    gru = nn.GRU(1, 2, bias=False)
    optimizer = torch.optim.Adam(gru.parameters())
    gru(torch.ones(1, 1, 1))[0].sum().backward()
    optimizer.step()
    return {
        "rnn": nn.RNN(1, 2).state_dict(),
        "lstm": {"state_dict": nn.LSTM(2, 3, proj_size=1).state_dict(), "epoch": 3, "nonlinearity": "relu"},
        "cells": [nn.GRUCell(1, 2).half().state_dict(), nn.RNNCell(1, 1).state_dict()],
        "module": nn.Sequential(nn.Embedding(3, 1), nn.RNN(1, 2, nonlinearity="relu")),
        "optimizer": {"model": gru.state_dict(), "optim": optimizer.state_dict()},
        "renamed": {"enc_w_hh": torch.ones(2, 2), "enc_w_ih": torch.ones(1, 2), "x": None, "y": {1, 2}, "z": b"z"},
        "parametrised": nn.utils.parametrizations.weight_norm(nn.RNN(1, 2), "weight_hh_l0").state_dict(),
    }


def saved(content: object, *, legacy: bool = False, protocol: int = 2) -> bytes:
    """The file that torch.save makes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return file.getvalue()


def member(archive: bytes, name: str) -> bytes:
    """A member of a torch archive, by its name in the folder."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return next(file.read(each) for each in file.namelist() if each.partition("/")[2] == name)


def scripted() -> bytes:
    """The file that torch.jit.save makes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated
        torch.jit.save(torch.jit.script(nn.RNN(1, 2, nonlinearity="relu")), file)
    return file.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar archive with a folder and a link beside the files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def zipped(files: dict[str, bytes], method: int) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def quantized_model() -> onnx.ModelProto:
    """The LSTM that ``onnxruntime.quantization`` makes, with its weights."""
    body = operator_model("LSTM").graph
    held = {"W": np.ones((1, 1, 8), np.int8), "R": np.ones((1, 2, 8), np.int8), "B": np.ones((1, 16), np.float32)}
    held |= {
        f"{name}{end}": value for name in "WR" for end, value in (("s", np.ones(1, "f4")), ("z", np.ones(1, "i1")))
    }
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in held.items()]
    inputs = ["X", "W", "R", "B", "", "", "", "", "Ws", "Wz", "Rs", "Rz"]
    node = onnx.helper.make_node(
        "DynamicQuantizeLSTM", inputs, ["Y"], name="layer", hidden_size=2, domain="com.microsoft"
    )
    return onnx.helper.make_model(onnx.helper.make_graph([node], "graph", body.input, body.output, tensors))


def operator_model(kind: str, **settings: Any) -> onnx.ModelProto:
    """One recurrent operator with its weights."""
    rows = {"LSTM": 4, "GRU": 3}[kind] * 2
    shapes = {"W": (1, rows, 1), "R": (1, rows, 2), "B": (1, 2 * rows)}
    names = [*shapes]
    if settings:  # peepholes, and activations with parameters
        shapes["P"] = (1, 6)
        names += ["", "", "", "P"]
    tensors = [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    node = onnx.helper.make_node(kind, ["X", *names], ["Y"], name="layer", hidden_size=2, **settings)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "XY"]
    return onnx.helper.make_model(onnx.helper.make_graph([node], "graph", values[:1], values[1:], tensors))


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """Target, name and input."""
    held = contents()
    for name, content in held.items():
        archive = saved(content)
        yield "pickle", name, member(archive, "data.pkl")
        yield "pickle", f"{name}-4", member(saved(content, protocol=4), "data.pkl")
        yield "torch-zip", name, member(archive, "data.pkl")
        yield "torch-zip-raw", name, archive
        yield "torch-legacy", name, saved(content, legacy=True)
    yield (
        "pickle",
        "opcodes",
        pickle.dumps([1.5, -(2**70), "é", b"b", bytearray(b"c"), {1}, frozenset({2}), (), ...], 5),
    )
    yield "pickle", "plain", pickle.dumps({"a": [1.5, 2**70, True, None, "x"]}, 0)
    script = scripted()
    code = b"class RNN(Module):\n  def forward(self):\n    return torch.rnn_relu(x)\n"
    yield "torchscript", "rnn", code + b"\0" + member(script, "data.pkl")
    yield "torchscript-raw", "rnn", script
    numbers = {name: tensor.clone() for name, tensor in held["rnn"].items()}
    safe = save_tensors(numbers, {"nonlinearity": "relu"})
    yield "safetensors", "rnn", safe
    yield "safetensors", "cells", save_tensors(held["cells"][0])
    yield "safetensors-header", "rnn", safe[8 : 8 + int.from_bytes(safe[:8], "little")]
    files = {"models/a.safetensors": safe, "b.pt": saved(held["rnn"]), "notes.txt": b"text"}
    yield "zip", "stored", zipped(files, zipfile.ZIP_STORED)
    yield "zip", "deflated", zipped(files, zipfile.ZIP_DEFLATED)
    yield "zip", "lzma", zipped({"a.safetensors": safe}, zipfile.ZIP_LZMA)
    yield "tar", "pax", tarred({"ü" * 90 + "/a.safetensors": safe, "b.pt": saved(held["rnn"])})
    for mode in ("gz", "bz2", "xz"):
        yield "tar-compressed", mode, tarred({"a.safetensors": safe}, f"w:{mode}")
    inner = {"a": safe, "notes.txt": b"text"}
    yield "nested", "zip", zipped(inner, zipfile.ZIP_DEFLATED)
    yield "nested", "tar", tarred({**inner, "deep.zip": zipped(inner, zipfile.ZIP_STORED)}, "w:gz")
    yield "nested", "torch", saved(held["rnn"])
    for layouts in UNREAD_FILES.values():
        for build in layouts.values():
            with tempfile.TemporaryDirectory() as folder:
                path = build(Path(folder))
                if path.is_file():
                    yield "search", path.name, path.read_bytes()
    arrays = io.BytesIO()
    np.savez(arrays, **{name: tensor.numpy() for name, tensor in numbers.items()})
    yield "npz", "rnn", arrays.getvalue()
    own = {name: tensor.numpy() for name, tensor in numbers.items()}
    yield "torch-zip", "arrays", member(saved(own), "data.pkl")
    yield "torch-zip", "arrays-5", member(saved(own, protocol=5), "data.pkl")
    for protocol in range(6):
        yield "plain-pickle", f"arrays-{protocol}", pickle.dumps(own, protocol)
        yield "plain-pickle", f"tensors-{protocol}", pickle.dumps(numbers["weight_hh_l0"], protocol)
    yield (
        "plain-pickle",
        "objects",
        pickle.dumps([np.array([None, 1]), np.float32(2), np.asfortranarray(np.ones((2, 3)))]),
    )
    with module_of("skorch.net", "NeuralNet") as made:
        yield "plain-pickle", "net", pickle.dumps(made.NeuralNet(file=saved(held["rnn"]), weights=np.ones((2, 2))))
        yield "plain-pickle", "net-0", pickle.dumps(made.NeuralNet(weights=np.ones((2, 2))), 0)
    yield "joblib", "arrays", joblib_bytes(own)
    yield "joblib", "objects", joblib_bytes([np.array([None]), np.ones((2, 2), ">f4")], aligned=False)
    for compress in (zlib.compress, gzip.compress, bz2.compress, lzma.compress):
        yield "joblib", compress.__module__.strip("_"), compress(joblib_bytes(own["weight_hh_l0"]))
    tree = {"step": np.int32(3), "params": {"LSTMCell_0": own}, "opt_state": {"0": own}, "x": [1j, None, -1.5, "ä"]}
    yield "msgpack", "flax", msgpack_bytes(tree)
    yield "msgpack", "pieces", msgpack_bytes({"params": {"weight_hh": in_pieces(own["weight_hh_l0"], 3), "k": own}})
    exported = io.BytesIO()
    torch.export.save(torch.export.export(nn.RNN(1, 2), (torch.zeros(3, 1),)), exported)
    yield "torch-export", "rnn", exported.getvalue()
    yield "index", "rnn", json.dumps({"metadata": {}, "weight_map": dict.fromkeys(numbers, SHARD)}).encode()
    with tempfile.TemporaryDirectory() as folder:
        distributed.save({"rnn": {name: t.clone() for name, t in numbers.items()}}, checkpoint_id=folder, no_dist=True)
        yield "metadata", "rnn", (Path(folder) / ".metadata").read_bytes()
        yield "distcp", "rnn", (Path(folder) / "__0_0.distcp").read_bytes()
    for kind in ("LSTM", "GRU"):
        yield "onnx", kind, operator_model(kind).SerializeToString()
    yield "onnx", "quantized", quantized_model().SerializeToString()
    hard = {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]}
    yield "onnx", "peepholes", operator_model("LSTM", **hard).SerializeToString()
    for name in ("net.h5", "cudnn.h5", "net.keras"):
        yield "keras", name, (KERAS / name).read_bytes()
    yield "keras-config", "chain", (KERAS / "chain.json").read_bytes()
    for i in range(0, len(mutate.ENTRIES), 6):
        yield "names", str(i), b"\n".join(mutate.ENTRIES[i : i + 6])
    yield "map", "gru", b"hh=*.U,ih=*.W,bias=*.b,cell=gru,order=zrh,layout=columns,reset=before"
    yield "map", "rnn", b"hh=dec/*/hh,ih=dec/*/ih,cell=relu"


SHARD: Final = "model-00001-of-00002.safetensors"
KERAS: Final = Path(__file__).parent.parent / "parsers" / "keras2"


def write(folder: Path = SEEDS) -> None:
    """Write all, a folder a target."""
    for target, name, data in seeds():
        path = folder / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    write()
