"""Files whose names are not UTF-8, as old archives and other systems leave them: measured and told like any other."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.builders.command_line import Cli
from tests.builders.processes import completed

QUICK = ("--T", "12", "--batch", "3", "--exponents", "2")
KINDS = ("zip.pt", "legacy.pt", "m.safetensors", "m.npz")


@pytest.fixture(params=["file", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """A GRU in each format, and the same under a name, or in a folder of a name, that is not UTF-8."""
    torch.manual_seed(0)
    state = nn.GRU(2, 4).state_dict()
    plain = tmp_path / "plain"
    plain.mkdir()
    torch.save(state, plain / "zip.pt")
    torch.save(state, plain / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(state, plain / "m.safetensors")
    np.savez(plain / "m.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    mark = os.fsdecode(b"\xff")
    if request.param == "folder":
        shutil.copytree(plain, tmp_path / mark)
        return [tmp_path / mark / kind for kind in KINDS]
    return [Path(shutil.copy(plain / kind, tmp_path / f"{mark}{kind}")) for kind in KINDS]


def bare(report: dict[str, object]) -> object:
    return {key: value for key, value in report.items() if key not in ("source", "path", "conditions")}


def test_they_are_measured_and_written_in_every_format(cli: Cli, odd: list[Path], tmp_path: Path) -> None:
    plain = json.loads(cli("inspect", *(tmp_path / "plain" / kind for kind in KINDS), *QUICK, "--format", "json").out)
    files = {name: tmp_path / f"out.{name}" for name in ("json", "table", "markdown", "junit", "sarif", "jsonl")}
    formats = [word for name, file in files.items() for word in ("--format", f"{name}={file}")]
    done = completed("check", *odd, *QUICK, "--fail-on", "never", *formats)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith(b"Checked 4 models: ")
    assert sorted(done.stderr.splitlines()) == sorted(f"rnndiag: wrote {each}".encode() for each in files.values())
    told = json.loads(files["json"].read_bytes())
    lines = [json.loads(line) for line in files["jsonl"].read_bytes().splitlines()]
    assert [each["source"]["path"] for each in told] == [line["path"] for line in lines] == [str(path) for path in odd]
    assert [bare(each) for each in told] == [bare(line) for line in lines]
    assert [each["layers"] for each in told] == [each["layers"] for each in plain]
    for file in files.values():
        file.read_text(encoding="utf-8")
    assert json.loads(completed("inspect", *odd, *QUICK, "--format", "json").stdout)[0]["source"]["path"] == str(odd[0])


def test_they_are_kept_and_gone_on_with(cli: Cli, odd: list[Path], tmp_path: Path) -> None:
    out, kept = tmp_path / "out.jsonl", tmp_path / "kept.json"
    told = ("check", *odd, *QUICK, "--fail-on", "never", "--cache", tmp_path / "cache")
    first = cli(*told, "--format", f"jsonl={out}")
    wrote = f"rnndiag: wrote {out}\n"
    assert (first.code, first.err) == (0, wrote)
    before = out.read_bytes()
    assert len(list((tmp_path / "cache").rglob("*.json"))) == len(odd)
    again = cli(*told, "--format", f"jsonl={out}", "--resume")
    assert (again.code, again.err, out.read_bytes()) == (0, "", before)
    cached = cli(*told, "--format", f"jsonl={out}")
    assert (cached.code, cached.err, out.read_bytes()) == (0, wrote, before)
    assert cli(*told, "--write-baseline", kept).code == 0
    done = cli(*told, "--baseline", kept, "--fail-on", "info")
    assert (done.code, done.err) == (0, ""), done.err


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff.pt")
    odd.write_bytes(b"nothing")
    done = completed("inspect", odd, tmp_path / os.fsdecode(b"gone\xff.pt"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    assert rf"{tmp_path}/\udcff.pt: ".encode() in done.stderr
    assert rf"{tmp_path}/gone\udcff.pt: no such file".encode() in done.stderr
