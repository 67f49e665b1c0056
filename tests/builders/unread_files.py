"""A small file or folder of each format that rnndiag recognizes and does not read, by its name in ``UNREAD``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[[Path], Path]
    """Writes a model into an empty folder, and returns its path."""


def file(name: str, content: bytes) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return build


def folder_of(**files: bytes) -> Build:
    """The folder ``net`` with files, whose names have ``__`` for a dot and ``_in_`` for a slash."""

    def build(folder: Path) -> Path:
        for name, content in files.items():
            path = folder / "net" / name.replace("__", ".").replace("_in_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / "net"

    return build


def named_folder(name: str, **files: bytes) -> Build:
    return lambda folder: folder_of(**files)(folder).rename(folder / name)


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf with content shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


META_GRAPH: Final = (
    b"\x08\x01\x12\xca\xd1\x0b\n\xcf\x15\x12\xa5\x15\n^\n\x10AssignVariableOp\x12\x0c\n\x08reso" + bytes(99)
)
INDEX: Final = b"\0\0\x06\x08\x01\x1a\x02\x08\x01\0\x1c\x10_CHECKPOINTABLE_OBJECT_GRAPH" + bytes(200)
TRAINEDDATA: Final = struct.pack("<i24q", 24, *[-1] * 17, 196, 300, *[-1] * 4, 400) + bytes(300)
PROGRAM: Final = field(1, b"\x08\0\x10" + b"\xff" * 9 + b"\x01" + field(3, b"\n\x04lstm")) + bytes(40)


def checkpoint(folder: Path) -> Path:
    """A TensorFlow checkpoint as a Saver writes it; it is found by its index."""
    for name, content in {
        "model.ckpt.data-00000-of-00001": bytes(range(256)),
        "model.ckpt.index": INDEX,
        "model.ckpt.meta": b"\n\xf4?\x12\xcc?\n9\n\x03Add\x12\x06\n\x01x" + bytes(90),
        "checkpoint": b'model_checkpoint_path: "model.ckpt"\n',
    }.items():
        (folder / name).write_bytes(content)
    return folder / "model.ckpt.index"


def browser_model(folder: Path) -> Path:
    (folder / "group1-shard1of1.bin").write_bytes(bytes(range(256)))
    (folder / "model.json").write_text('{"format": "layers-model", "modelTopology": {"keras_version": "2.2.4"}}')
    return folder / "model.json"


def openvino(folder: Path) -> Path:
    (folder / "lstm.bin").write_bytes(bytes(range(256)))
    (folder / "lstm.xml").write_text('<?xml version="1.0"?>\n<net name="lstm" version="11">\n<layers></layers></net>')
    return folder / "lstm.xml"


UNREAD_FILES: Final[dict[str, dict[str, Build]]] = {
    "a TensorFlow SavedModel": {
        "folder": folder_of(saved_model__pb=META_GRAPH, variables_in_variables__index=INDEX),
        "file": file("saved_model.pb", META_GRAPH),
    },
    "a TensorFlow checkpoint": {
        "index": checkpoint,
        "data": file("variables.data-00000-of-00001", bytes(range(256))),
    },
    "a TensorFlow graph (frozen, .pb)": {
        "": file("frozen.pb", field(1, field(1, b"input_x") + field(2, b"Placeholder")) + bytes(100))
    },
    "a TensorFlow Lite (LiteRT) model": {"": file("model.lite", b"\x1c\0\0\0TFL3" + bytes(100))},
    "a TensorFlow.js model": {
        "model": browser_model,
        "graph": file("x", b' {"modelTopology": {}, "weightsManifest": []}'),
        "shard": file("group1-shard1of2.bin", bytes(range(256))),
    },
    "an Orbax checkpoint": {
        "standard": folder_of(_CHECKPOINT_METADATA=b"{}", manifest__ocdbt=bytes(100)),
        "tree": folder_of(_METADATA=b"{}", d_in_0=bytes(9)),
    },
    "a Core ML model": {
        "package": named_folder("net.mlpackage", Manifest__json=b"{}", Data_in_model__mlmodel=b"\x08\x07" + bytes(99)),
        "file": file("net.mlmodel", b"\x08\x05\x12\x9a\x02" + bytes(99)),
    },
    "an OpenVINO model": {"": openvino},
    "a Tesseract model (.traineddata)": {"": file("eng", TRAINEDDATA)},
    "a Paddle model": {
        "program": file("__model__", PROGRAM),
        "json": file("inference.json", b'{"base_code":{"magic":"pir","trainable":false}}'),
        "weights": file("inference.pdiparams", bytes(40)),
    },
    "an MXNet model": {
        "params": file("net-0010.params", struct.pack("<QQQ", 0x112, 0, 3) + bytes(60)),
        "symbol": file("net-symbol.json", b'{\n  "nodes": [\n    {"op": "null"}]}'),
    },
    "a MATLAB file": {
        "5": file("net.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x01IM" + bytes(99)),
        "7.3": file("net.mat", b"MATLAB 7.3 MAT-file".ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(99)),
    },
    "a GGUF file": {"": file("rwkv.gguf", b"GGUF\x03\0\0\0" + bytes(100))},
    "a model in ONNX Runtime's own format": {"": file("model.ort", b"\x18\0\0\0ORTM" + bytes(100))},
    "a DyNet model": {"": file("tagger.model", b"#Parameter# /lstm/_0 {16,50} 800\n0.1 0.2\n")},
}
"""By the name of the format, then of its layout."""
