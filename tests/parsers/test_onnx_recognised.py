"""What is taken for an ONNX file: any order of a model's fields, and nothing else."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.base import Candidate
from rnndiag.checkpoint.formats.onnx import FORMAT
from tests.builders.onnx_files import graph, model, operator, weights


def accepted(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return FORMAT.recognizes(Candidate(path))


MODEL = model(graph([operator()], weights("LSTM")), producer_name="who", producer_version="1.0", doc_string="a\nb")
FIELDS = ["ir_version", "producer_name", "producer_version", "graph", "opset_import", "doc_string"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(FIELDS))
def test_the_fields_of_a_model_in_any_order(tmp_path, order):
    parts = []
    for name in order:
        part = onnx.ModelProto()
        value = getattr(MODEL, name)
        if name == "graph":
            part.graph.CopyFrom(value)
        elif name == "opset_import":
            part.opset_import.extend(value)
        else:
            setattr(part, name, value)
        parts.append(part.SerializeToString())
    assert accepted(tmp_path, b"".join(parts))
    if order == FIELDS[::-1]:
        assert load(tmp_path / "file").stacks


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        b"\x08\x07",
        b"\x08\x00\x12\x01a",
        b"\x08\x01\x12\x90\x4e" + b"\x0a\x04meta" * 2000,  # TensorFlow's SavedModel
        b"\x08\x01\x12\x06\x0a\x04meta",
        b"\x0a\x05names\x12\x03abc",
        b"\x3a and some text after it, as in a script of vim",
        b"\x08\x07\x12\x07pytorch\xf2\x03\x02ab",  # Core ML
        b"\x08\x07\x12\x07pytorch\x3a\x02ab",
        b"\x08\x07\x12\x04\xff\xfe\xfd\xfc\x3a\x00",
        b"\x12\x0bhello world",
    ],
)
def test_other_files_are_not_taken(tmp_path, data):
    assert not accepted(tmp_path, data)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["C"], include_characters="\n\t"), min_size=1))
def test_no_text_is_taken(tmp_path, text):
    assert not accepted(tmp_path, text.encode())


def test_a_model_cut_off_before_its_graph(tmp_path, refusal):
    (tmp_path / "file").write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.0.0")
    assert "an ONNX model without a graph, perhaps cut short" in refusal(tmp_path / "file")


def test_a_model_in_the_format_of_onnxruntime_is_named(tmp_path, refusal):
    (tmp_path / "file").write_bytes(b"\x18\0\0\0ORTM" + b"\0" * 40)
    assert "the .onnx file that it was made from" in refusal(tmp_path / "file")
