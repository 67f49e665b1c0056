"""How far training was, as a file says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnndiag import checkpoint

STATE = nn.GRU(2, 3).state_dict()
DEEP = {"loop": {"inner": {"step": 7}}}


@pytest.mark.parametrize(
    ("saved", "progress"),
    [
        (STATE, {}),
        ({"state_dict": STATE, "epoch": 3, "global_step": 1200}, {"epoch": 3, "global_step": 1200}),
        ({"model": STATE, "step": torch.tensor(50)}, {"step": 50}),
        ({"model": STATE, "iteration": 8, "trainer": {"iteration": 9, "step": 4}}, {"iteration": 8, "step": 4}),
        ({"trainer": {"step": 4}, "model": STATE, "step": 5}, {"step": 5}),
        ({"model": STATE, "hyper_parameters": {"epoch": 100}}, {}),
        ({"model": STATE, "optimizer": {"state": {}, "param_groups": [], "step": 3}}, {}),
        ({"model": STATE, **DEEP}, {}),
        ({"model": STATE, "step": True, "epoch": 2.5, "iter": -1, "global_step": 1 << 60}, {}),
        ({"model": STATE, "step": torch.tensor(0.5), "epoch": torch.tensor([1, 2])}, {}),
    ],
)
def test_counters_are_read_as_plain_numbers(saved: object, progress: dict[str, int], tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "model.pt")
    assert checkpoint.load(tmp_path / "model.pt").source.progress == progress


@pytest.mark.parametrize(
    ("state", "progress", "skipped"),
    [
        (json.dumps({"global_step": 500, "epoch": 1.5, "log_history": []}), {"global_step": 500}, False),
        (json.dumps({"epoch": 1.5}), {}, False),
        (json.dumps({"global_step": -5}), {}, False),
        (json.dumps({"global_step": "many"}), {}, False),
        ("{", {}, True),
    ],
)
def test_a_trainers_state_beside_the_weights(
    state: str, progress: dict[str, int], skipped: bool, tmp_path: Path
) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "trainer_state.json").write_text(state, encoding="utf-8")
    source = checkpoint.load(tmp_path).source
    assert source.progress == progress
    assert any(each.name == "trainer_state.json" for each in source.skipped) == skipped


def test_a_trainers_state_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path.parent / "elsewhere.json").write_text(json.dumps({"global_step": 5}), encoding="utf-8")
    (tmp_path / "trainer_state.json").symlink_to(tmp_path.parent / "elsewhere.json")
    assert checkpoint.load(tmp_path).source.progress == {}
