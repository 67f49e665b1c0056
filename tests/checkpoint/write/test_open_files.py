"""A file that is written over is mapped and opened by no one then: some systems refuse it, on others the pages go."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write.write_back import rewrite
from tests.builders.changed_layers import layers_of, treated


def save_npz(state, path):
    with path.open("wb") as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in state.items()})


SAVE = {
    "torch": torch.save,
    "torch-legacy": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "safetensors": save_file,
    "npz": save_npz,
}


def held(folder: Path) -> set[str]:
    """Files of a folder that this process has mapped or open."""
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    opened = {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}
    return {name for name in mapped | opened if name.startswith(str(folder))}


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize("form", SAVE)
def test_nothing_holds_a_file_that_is_replaced(tmp_path, monkeypatch, form):
    path = tmp_path / "model"
    state = nn.GRU(2, 3).state_dict() | {"step": torch.tensor([3]), "ids": torch.arange(100_000)}
    SAVE[form](state, path)
    changed = {name: treated(layer) for name, layer in layers_of(load(path)).items()}
    replace, seen = Path.replace, []

    def watched(one, other):
        seen.append(held(tmp_path.resolve()))
        return replace(one, other)

    monkeypatch.setattr(Path, "replace", watched)
    gc.collect()
    gc.disable()  # nor may it take a collection to let go
    try:
        rewrite(path, path, changed, force=True)
    finally:
        gc.enable()
    assert seen == [set()]
