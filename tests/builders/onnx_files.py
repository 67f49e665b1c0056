"""ONNX models made by hand, and what onnxruntime computes with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from rnndiag.checkpoint import load
from rnndiag.trajectory import run_stack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rnndiag.cells.layer import Stack

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
D, H = 3, 5
"""Inputs and hidden units of the operators made here."""


def weights(kind: str, directions: int = 1, dtype: Any = np.float32, inputs: int = D) -> dict[str, np.ndarray]:
    """W, R and B for an operator, all different."""
    draw = np.random.default_rng(7).normal
    rows = GATES[kind] * H
    shapes = {"W": (directions, rows, inputs), "R": (directions, rows, H), "B": (directions, 2 * rows)}
    return {name: draw(scale=0.5, size=shape).astype(dtype) for name, shape in shapes.items()}


def graph(
    nodes: Sequence[onnx.NodeProto],
    stored: dict[str, np.ndarray] | Sequence[onnx.TensorProto] = (),
    inputs: Sequence[str] = ("X",),
    outputs: Sequence[str] = ("Y",),
    dtype: int = TensorProto.FLOAT,
) -> onnx.GraphProto:
    """A graph whose inputs and outputs are of one type and of any shape."""
    tensors = [numpy_helper.from_array(a, n) for n, a in stored.items()] if isinstance(stored, dict) else list(stored)
    return helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, dtype, None) for name in inputs],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        tensors,
    )


def model(body: onnx.GraphProto, opset: int = 17, **options: Any) -> onnx.ModelProto:
    """The model that onnxruntime accepts around a graph."""
    options.setdefault("opset_imports", [helper.make_opsetid("", opset)])
    return helper.make_model(body, ir_version=10, **options)


def operator(kind: str = "LSTM", name: str = "layer", **settings: Any) -> onnx.NodeProto:
    """A recurrent operator that reads X, W, R and B, and makes Y."""
    settings.setdefault("hidden_size", H)
    inputs = settings.pop("inputs", ["X", "W", "R", "B"])
    outputs = settings.pop("outputs", ["Y"])
    return helper.make_node(kind, inputs, outputs, name, **settings)


def write(path: Path, body: onnx.GraphProto, **options: Any) -> Path:
    """The file of a model around a graph."""
    onnx.save(model(body, **options), path)
    return path


def sequence(steps: int = 7, sequences: int = 2, inputs: int = D, dtype: Any = np.float32) -> np.ndarray:
    """Inputs for an operator: ``[T, B, D]``."""
    return np.random.default_rng(1).normal(size=(steps, sequences, inputs)).astype(dtype)


def by_onnxruntime(path: Path, inputs: dict[str, np.ndarray], names: Sequence[str] = ()) -> list[np.ndarray]:
    """The model's outputs, or any values of its main graph, as onnxruntime computes them from the same file."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    proto = onnx.load(path)
    if names:
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def states(stack: Stack, inputs: np.ndarray) -> list[np.ndarray]:
    """Each level's hidden states as ONNX lays them out: ``[T, directions, B, H]`` in the sequence's own order."""
    levels = run_stack(stack, torch.from_numpy(inputs))
    return [
        torch.stack([r.hidden.flip(0) if r.layer.direction == "reverse" else r.hidden for r in level], 1).numpy()
        for level in levels
    ]


def only_stack(path: Path) -> Stack:
    """The one module in a file."""
    (stack,) = load(path).stacks
    return stack


def constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    """A node that makes a constant."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def names(path: Path) -> list[str]:
    """The names of all layers of a file."""
    return [layer.name for stack in load(path).stacks for layer in stack.layers]


def with_external_weights(path: Path, **entries: str) -> Path:
    """A model whose W is in another file, at the given entries; ``weights.bin`` next to the model holds W."""
    body = graph([operator()], weights("LSTM"))
    tensor = next(tensor for tensor in body.initializer if tensor.name == "W")
    (path.parent / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model(body).SerializeToString())
    return path
