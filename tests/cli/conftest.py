"""Real files and real calls of the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from rnndiag.__main__ import run


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call the command line in this process: its exit code and streams."""

    def call(*arguments: object) -> Done:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small classifier as a state_dict: an embedding, a GRU, a linear head."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(11, 4), "rnn": nn.GRU(4, 8), "fc": nn.Linear(8, 3)})
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    return path
