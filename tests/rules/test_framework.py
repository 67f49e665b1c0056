"""A cause names the framework that wrote the file if the file says which, and otherwise no framework."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

import rnndiag
from rnndiag.config.settings import Settings
from rnndiag.renderers import table
from rnndiag.report import Report

H = 24
FRAMEWORK = re.compile("PyTorch|Keras|TensorFlow|Flax|MLX")


def lstm() -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(3, H)


def torch_file(path: Path) -> None:
    torch.save(lstm().state_dict(), path)


def npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in lstm().state_dict().items()})


def safetensors(path: Path) -> None:
    save_file(lstm().state_dict(), path)


def safetensors_of_torch(path: Path) -> None:
    save_file(lstm().state_dict(), path, metadata={"format": "pt"})


def keras_file(path: Path) -> None:
    keras3 = pytest.importorskip("tests.builders.keras3")
    keras, layers = keras3.keras, keras3.kl
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((6, 3)), layers.LSTM(H, unit_forget_bias=False)]).save(path)


def onnx_file(path: Path, producer: str = "") -> None:
    pytest.importorskip("onnx")
    from tests.builders import onnx_files

    state = {name: tensor.numpy()[None] for name, tensor in lstm().state_dict().items()}
    order = [0, 3, 1, 2]  # i, o, f, c of ONNX from i, f, g, o

    def turned(value: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(value, 4, axis=1)[i] for i in order], axis=1)

    stored = {
        "W": turned(state["weight_ih_l0"]),
        "R": turned(state["weight_hh_l0"]),
        "B": np.concatenate([turned(state["bias_ih_l0"]), turned(state["bias_hh_l0"])], axis=1),
    }
    node = onnx_files.operator("LSTM", hidden_size=H)
    model = onnx_files.model(onnx_files.graph([node], stored), producer_name=producer)
    path.write_bytes(model.SerializeToString())


def onnx_of_torch(path: Path) -> None:
    onnx_file(path, "pytorch")


WRITERS = {
    "model.pt": (torch_file, "PyTorch"),
    "model.npz": (npz, ""),
    "model.safetensors": (safetensors, ""),
    "transformers.safetensors": (safetensors_of_torch, "PyTorch"),
    "model.keras": (keras_file, "Keras"),
    "model.onnx": (onnx_file, ""),
    "exported.onnx": (onnx_of_torch, "PyTorch"),
}


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table.render([report]))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_the_cause_of_a_forget_bias_near_zero(tmp_path: Path, name: str) -> None:
    write, framework = WRITERS[name]
    write(tmp_path / name)
    report = rnndiag.inspect(tmp_path / name, length=80, batch=4, settings=Settings(treat=False, exponents=1))
    assert report.source.framework == framework
    (finding,) = (each for each in report.findings if each.rule == "INI001")
    assert set(FRAMEWORK.findall(finding.cause)) == ({framework} if framework else set())
    # Notes on conversions name PyTorch's order of gates, which is rnndiag's own.
    text = shown(replace(report, notes=())).replace(str(tmp_path), "")
    assert set(FRAMEWORK.findall(text)) <= ({framework} if framework else set())
    # The weights of all but Keras's net are drawn by PyTorch's default law.
    assert ("PyTorch's default" in text) == (framework == "PyTorch")


def test_a_module_in_memory_is_pytorchs() -> None:
    report = rnndiag.inspect(lstm(), length=80, batch=4, settings=Settings(treat=False, exponents=1))
    assert report.source.framework == "PyTorch"
