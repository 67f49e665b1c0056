"""ONNX and Keras files are read but not written: a changed model needs another format."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import rnndiag
from rnndiag.errors import CheckpointError

KERAS_2 = Path(__file__).parent / "keras2"
TREATMENT = "init-xavier"


def refused(path: Path, format_: str) -> None:
    target = path.with_name("new" + path.suffix)
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        rnndiag.prescribe(path, length=30, batch=4, treatments=TREATMENT, take=TREATMENT, save=target)
    message = str(caught.value)
    assert message.startswith(f"{path}: a changed model is not written back in the format {format_}: ")
    assert "save it as .safetensors" in message
    assert "\n" not in message
    assert path.read_bytes() == before
    assert not target.exists()


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from tests.builders.onnx_files import graph, operator, weights, write

    refused(write(tmp_path / "model.onnx", graph([operator()], weights("LSTM"))), "onnx")


@pytest.mark.parametrize(("name", "format_"), [("net.h5", "keras-h5"), ("net.keras", "keras")])
def test_keras(tmp_path: Path, name: str, format_: str) -> None:
    refused(Path(shutil.copy(KERAS_2 / name, tmp_path)), format_)
