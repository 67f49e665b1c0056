"""Folders of small saved models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def save(path: Path, seed: int, hidden: int = 4) -> str:
    torch.manual_seed(seed)
    torch.save(nn.RNN(2, hidden).state_dict(), path)
    return str(path)


def ten(folder: Path) -> list[str]:
    """Eight sound models, one whose numbers are not finite, and a file that is no model."""
    folder.mkdir()
    paths = [save(folder / f"m{i}.pt", i) for i in range(8)]
    broken = nn.GRU(2, 4).state_dict()
    broken["weight_hh_l0"][0, 0] = torch.nan
    torch.save(broken, folder / "nan.pt")
    (folder / "text.pt").write_text("no model", encoding="utf-8")
    return [*paths, str(folder / "nan.pt"), str(folder / "text.pt")]
