"""A file that is another by the time its change is written."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write import target as copies
from rnndiag.checkpoint.write.write_back import rewrite
from rnndiag.errors import CheckpointError
from tests.builders.changed_layers import layers_of, treated


def test_saved_anew_between_reading_and_copying(save, tmp_path, monkeypatch):
    """Its layers are the same, so that only the digest of what was copied tells."""
    state = {**nn.GRU(2, 3).state_dict(), "step": torch.tensor([1.0])}
    path = save(state)
    changed = {name: treated(layer) for name, layer in layers_of(load(path)).items()}
    copyfile = copies.shutil.copyfile

    def late(source, target):
        save({**state, "step": torch.tensor([2.0])})
        copyfile(source, target)

    monkeypatch.setattr(copies.shutil, "copyfile", late)
    with pytest.raises(CheckpointError, match="written anew"):
        rewrite(path, tmp_path / "new.pt", changed)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("same", [True, False])
def test_against_what_was_measured(save, tmp_path, same):
    net = nn.GRU(2, 3)
    path = save(net.state_dict())
    before = load(path)
    changed = {name: treated(layer).to(torch.float32) for name, layer in layers_of(before).items()}
    if same:
        rewrite(path, tmp_path / "new.pt", changed, measured=before)
        assert (tmp_path / "new.pt").exists()
        return
    save(nn.GRU(2, 3).state_dict())
    with pytest.raises(CheckpointError, match="written anew"):
        rewrite(path, tmp_path / "new.pt", changed, measured=before)
