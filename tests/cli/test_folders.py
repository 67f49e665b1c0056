"""Folders as arguments: a model in several files, and places where models lie."""

from __future__ import annotations

import argparse
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from tests.builders.command_line import Cli, Done
from tests.builders.unread_files import UNREAD_FILES

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
    assert "no model in this folder, by content: 0 files and folders were searched" in done.err


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
    assert (done.code, "the pattern matches only folders without models" in done.err) == (2, True)


def measured(done: Done) -> list[str]:
    """The names of the measured models."""
    return sorted(Path(report["source"]["path"]).name for report in json.loads(done.out))


def test_every_model_of_a_mixed_folder_is_measured(cli: Cli, tmp_path: Path) -> None:
    for number, name in enumerate(("model.bin", "noext", "x.txt", "best.th")):
        torch.manual_seed(number)
        torch.save(nn.GRU(2, 3).state_dict(), tmp_path / name)
    (tmp_path / "notes.txt").write_text("Four nets.", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        archive.write(tmp_path / "best.th", "best.th")
    with zipfile.ZipFile(tmp_path / "docs.zip", "w") as archive:
        archive.write(tmp_path / "notes.txt", "notes.txt")
    done = cli("check", tmp_path, *QUICK, "--fail-on", "never", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert measured(done) == ["best.th", "model.bin", "noext", "run.zip", "x.txt"]


def test_a_model_that_is_not_read_fails_its_folder(cli: Cli, places: Path) -> None:
    UNREAD_FILES["a TensorFlow SavedModel"]["folder"](places)
    (places / "phone").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    done = cli("check", places, *QUICK, "--fail-on", "never", "--format", "json")
    assert done.code == 2
    assert measured(done) == ["a.pt", "b.safetensors", "hub", "spread"]
    errors = [line.partition(", which")[0] for line in done.err.splitlines()]
    assert errors == [
        f"rnndiag: error: {places}/phone: a TensorFlow Lite (LiteRT) model",
        f"rnndiag: error: {places}/net: a TensorFlow SavedModel",
    ]


def test_data_in_a_general_format_is_skipped(cli: Cli, places: Path) -> None:
    h5py = pytest.importorskip("h5py")
    for name in ("climate.nc", "vars.nc", "named.h5"):
        with h5py.File(places / name, "w") as file:
            file["vars" if name == "vars.nc" else "temperature"] = np.zeros((3, 3))
    (places / "data.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(600))
    np.save(places / "probe.npy", np.zeros((3, 2)))
    done = cli("check", places, *QUICK, "--fail-on", "never", "--format", "json")
    assert measured(done) == ["a.pt", "b.safetensors", "hub", "spread"]
    notes = [line for line in done.err.splitlines() if line.startswith("rnndiag: note: ")]
    assert notes == [f"rnndiag: note: skipped {places}/vars.nc: an HDF5 file in which Keras wrote no weights"]
    # The name promises a model, so its refusal must not pass unnoticed.
    assert (done.code, f"error: {places}/named.h5: an HDF5 file in which" in done.err) == (2, True)
    (places / "named.h5").unlink()
    assert cli("check", places, *QUICK, "--fail-on", "never").code == 0
    assert cli("check", places / "vars.nc", *QUICK).code == 2
    assert cli("check", places / "vars.nc", places / "a.pt", *QUICK, "--fail-on", "never").code == 2


def test_an_archive_that_is_not_searched_is_named(cli: Cli, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnndiag.checkpoint.search.MAX_LOOKED_PER_ARCHIVE", 1 << 20)
    with tarfile.open(places / "data.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("zeros")
        entry.size = 3 << 20
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
        archive.addfile(tarfile.TarInfo("more"))
    done = cli("check", places, *QUICK, "--fail-on", "never")
    assert done.code == 0
    assert f"rnndiag: note: skipped {places}/data.tgz: no model among the first" in done.err
    (places / "alone").mkdir()
    (places / "data.tgz").rename(places / "alone" / "data.tgz")
    done = cli("check", places / "alone", *QUICK)
    assert (done.code, "alone/data.tgz was left out (no model among" in done.err) == (2, True)


TRAINING: dict[str, Callable[[nn.Module], object]] = {
    "optimizer.pt": lambda net: stepped(net).state_dict(),
    "optimizer_of_no_update.pt": lambda net: torch.optim.SGD(net.parameters(), 0.1).state_dict(),
    "optim.bin": lambda net: {"optimizer": stepped(net).state_dict(), "step": 3, "loss": torch.tensor(0.5)},
    "zero_pp_rank_0_mp_rank_00_optim_states.pt": lambda net: {
        "optimizer_state_dict": {"single_partition_of_fp32_groups": [torch.randn(40)], "zero_stage": 1},
        "ds_config": {"train_batch_size": 8},
        "ds_version": "0.14.0",
    },
    "scheduler.pt": lambda net: torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters(), 0.1), 3).state_dict(),
    "rng_state.pth": lambda net: {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # what transformers keeps
        "cpu": torch.get_rng_state(),
    },
    "training_args.bin": lambda net: argparse.Namespace(lr=0.1, device=torch.device("cpu")),
    "scaler.pt": lambda net: {"scale": 65536.0, "_growth_tracker": 0},
    "tokenizer.pt": lambda net: {"the": 0, "a": 1},
}
"""Files that training writes next to a model, by their usual names; rnndiag recognizes them by content."""


def stepped(net: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(4, 2))[0].sum().backward()
    optimizer.step()
    return optimizer


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    for k in range(2):
        torch.manual_seed(k)
        net = nn.GRU(2, 3)
        torch.save(net.state_dict(), folder / f"model_{k}.pt")
    for name, make in TRAINING.items():
        torch.save(make(nn.GRU(2, 3)), folder / name)
    torch.save(stepped(nn.GRU(2, 3)).state_dict(), folder / "model_of_nothing.pt")  # by content, not by name
    return folder


@pytest.mark.parametrize("command", ["check", "inspect", "trend"])
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_what_training_writes_next_to_a_model_is_skipped_with_a_note(
    cli: Cli, run_folder: Path, command: str, workers: tuple[str, ...]
) -> None:
    fail_on = () if command == "inspect" else ("--fail-on", "never")
    done = cli(command, run_folder, *QUICK, *workers, *fail_on, "--quiet")
    assert done.code == 0
    assert "model_0.pt" in "".join(done.out.split())
    lines = sorted(line for line in done.err.splitlines() if line)
    assert all(line.startswith(f"rnndiag: note: skipped {run_folder}/") for line in lines)
    assert {line.partition(f"{run_folder}/")[2].partition(": ")[0] for line in lines} == {
        *TRAINING,
        "model_of_nothing.pt",
    }
    assert f"rnndiag: note: skipped {run_folder}/optimizer.pt: optimizer state only" in lines
    assert f"rnndiag: note: skipped {run_folder}/scheduler.pt: scheduler state only" in lines


def test_a_pattern_is_like_a_folder_and_a_name_is_not(cli: Cli, run_folder: Path) -> None:
    assert cli("check", f"{run_folder}/*", *QUICK, "--fail-on", "never").code == 0
    named = cli("check", run_folder / "optimizer.pt", *QUICK, "--fail-on", "never")
    assert named.code == 2
    assert f"{run_folder}/optimizer.pt: optimizer state only: the file holds no recurrent layer" in named.err


def test_a_pattern_that_the_shell_expands_is_like_a_folder(cli: Cli, run_folder: Path) -> None:
    done = cli("check", run_folder / "optimizer.pt", run_folder / "model_0.pt", *QUICK, "--fail-on", "never")
    assert done.code == 0
    assert f"rnndiag: note: skipped {run_folder}/optimizer.pt: optimizer state only" in done.err
    done = cli("check", run_folder / "optimizer.pt", run_folder / "scheduler.pt", *QUICK)
    assert done.code == 2
    assert done.err.count("no model to measure: its only file was skipped") == 2


def test_a_folder_of_nothing_else_has_no_model(cli: Cli, run_folder: Path) -> None:
    for k in range(2):
        (run_folder / f"model_{k}.pt").unlink()
    done = cli("check", run_folder, *QUICK)
    assert done.code == 2
    assert f"rnndiag: error: {run_folder}: no model to measure: all {len(TRAINING) + 1} files were skipped" in done.err


@pytest.mark.parametrize(
    "content",
    [
        {"encoder.weight": torch.zeros(3, 3)},
        {"weights": np.zeros((3, 3))},
        {"model": b"x" * 2000},
        {"optimizer": {"state": {}, "param_groups": []}, "model": {"w": torch.zeros(3, 3)}},
    ],
    ids=["a model without layers", "arrays", "bytes", "a model beside its optimizer"],
)
def test_what_may_be_a_model_still_fails_its_folder(cli: Cli, places: Path, content: object) -> None:
    torch.save(content, places / "other.pt")
    done = cli("check", places, *QUICK, "--fail-on", "never")
    assert (done.code, "other.pt: no recurrent layer" in done.err) == (2, True)
