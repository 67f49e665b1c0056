"""Weights that a model holds in a narrower type than that in which it uses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper

from rnndiag.checkpoint import load
from tests.builders.onnx_files import by_onnxruntime, graph, only_stack, operator, sequence, states, weights, write

NARROW = {TensorProto.BFLOAT16: torch.bfloat16, TensorProto.FLOAT16: torch.float16}


def tensor(name, array, kind, *, raw=True):
    """The array rounded to a type of two bytes by torch, which is the oracle for both."""
    bits = torch.from_numpy(array).to(NARROW[kind]).view(torch.int16).numpy().view(np.uint16)
    made = onnx.TensorProto(name=name, data_type=kind, dims=array.shape)
    if raw:
        made.raw_data = bits.astype("<u2").tobytes()
    else:
        made.int32_data.extend(bits.ravel().tolist())
    return made


def model(path, kind, *, use="cast", raw=True):
    """A Cast follows each tensor, or the operator itself works in the narrow type."""
    held = weights("LSTM")
    if use == "itself":
        return write(path, graph([operator()], [tensor(n, a, kind) for n, a in held.items()], dtype=kind), opset=22)
    casts = [helper.make_node("Cast", [f"{name}16"], [name], to=TensorProto.FLOAT) for name in held]
    tensors = [tensor(f"{name}16", array, kind, raw=raw) for name, array in held.items()]
    return write(path, graph([*casts, operator()], tensors))


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", NARROW)
def test_they_are_read_in_the_models_own_type(tmp_path, kind, raw):
    path = model(tmp_path / "model.onnx", kind, raw=raw)
    stack = only_stack(path)
    assert {p.dtype for layer in stack.layers for p in layer.parameters.values()} == {NARROW[kind]}
    assert not any("widened" in note for note in load(path).notes)
    wide = replace(stack, levels=tuple(tuple(la.to(torch.float32) for la in level) for level in stack.levels))
    pytest.importorskip("onnxruntime")
    assert_allclose(states(wide, sequence())[0], by_onnxruntime(path, {"X": sequence()})[0], atol=1e-6)


def test_several_types_in_one_weight_are_widened(tmp_path):
    held = weights("LSTM")
    first, second = np.split(held.pop("R"), 2, axis=1)
    nodes = [
        helper.make_node("Cast", ["first16"], ["first"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["first", "second"], ["R"], axis=1),
    ]
    tensors = [numpy_helper.from_array(a, n) for n, a in (held | {"second": second}).items()]
    tensors.append(tensor("first16", first, TensorProto.BFLOAT16))
    path = write(tmp_path / "model.onnx", graph([*nodes, operator()], tensors))
    assert only_stack(path).layers[0].weight_hh.dtype == torch.float32
    assert any("bfloat16 weights were widened" in note for note in load(path).notes)


@pytest.mark.parametrize("kind", NARROW)
def test_an_operator_that_works_in_the_narrow_type(tmp_path, kind):
    path = model(tmp_path / "model.onnx", kind, use="itself")
    assert {p.dtype for layer in only_stack(path).layers for p in layer.parameters.values()} == {NARROW[kind]}
    assert not any("widened" in note for note in load(path).notes)
