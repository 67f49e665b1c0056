"""Folders as arguments: a model in several files, and places where models lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from tests.cli.conftest import Done

Cli = Callable[..., Done]
QUICK = ("--T", "12", "--batch", "3")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with a file, a model of the hub with a Trainer's files beside it, and a distributed one."""
    torch.manual_seed(0)
    state = nn.GRU(2, 3).state_dict()
    root = tmp_path / "places"
    (root / "hub").mkdir(parents=True)
    torch.save(state, root / "a.pt")
    save_file(state, root / "b.safetensors")
    save_file(state, root / "hub" / "model.safetensors")
    torch.save({"state": {}, "param_groups": []}, root / "hub" / "optimizer.pt")
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.save(state, checkpoint_id=root / "spread")
    (root / "loop").symlink_to(root)
    return root


def test_a_model_in_a_folder_is_one_model(cli: Cli, places: Path) -> None:
    done = cli("inspect", places / "hub", *QUICK, "--format", "json")
    assert done.code == 0
    source = json.loads(done.out)["source"]
    assert (source["path"], source["format"]) == (str(places / "hub"), "huggingface")


def test_a_folder_of_models(cli: Cli, places: Path) -> None:
    done = cli("check", places, *QUICK, "--format", "json")
    paths = [report["source"]["path"] for report in json.loads(done.out)]
    assert paths == [str(places / name) for name in ("a.pt", "b.safetensors", "hub", "spread")]


def test_an_output_never_overwrites_a_part_of_a_model(cli: Cli, places: Path) -> None:
    part = places / "hub" / "model.safetensors"
    before = part.read_bytes()
    done = cli("inspect", places / "hub", *QUICK, "-o", part)
    assert done.code == 2
    assert "is one of the inputs" in done.err
    assert part.read_bytes() == before
    report = places / "report.txt"
    for _ in range(2):
        assert cli("check", places, *QUICK, "--fail-on", "never", "-o", report).code == 0


def test_a_folder_without_models(cli: Cli, tmp_path: Path) -> None:
    done = cli("inspect", tmp_path)
    assert done.code == 2
    assert "a folder in which nothing is named like a model (.bin, .ckpt" in done.err


@pytest.mark.parametrize("pattern", ["*", "**", "*/", "h*", "a.pt"])
def test_a_quoted_pattern_is_what_a_shell_makes_of_it(cli: Cli, places: Path, pattern: str) -> None:
    """Folders that it matches are looked into as if they had been given."""
    (places / "empty").mkdir()
    (places / "loop").unlink()
    told = ("--T", "12", "--batch", "3", "--exponents", "1", "--format", "json")
    done = cli("inspect", f"{places}/{pattern}", *told)
    assert (done.code, done.err) == (0, "")
    names = {
        "*": ["a.pt", "b.safetensors", "hub", "spread"],
        "**": ["a.pt", "b.safetensors", "hub", "spread"],
        "*/": ["hub", "spread"],
        "h*": ["hub"],
        "a.pt": ["a.pt"],
    }[pattern]
    reports = json.loads(done.out)
    reports = reports if isinstance(reports, list) else [reports]
    assert [Path(report["source"]["path"]) for report in reports] == [places / name for name in names]


def test_a_pattern_of_folders_without_models(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = cli("inspect", f"{tmp_path}/e*")
    assert (done.code, "the pattern matches nothing but folders without models" in done.err) == (2, True)
