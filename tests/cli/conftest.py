"""Real files for the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small classifier as a state_dict: an embedding, a GRU, a linear head."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(11, 4), "rnn": nn.GRU(4, 8), "fc": nn.Linear(8, 3)})
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    return path
