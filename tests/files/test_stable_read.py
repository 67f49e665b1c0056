"""A file that another process replaces again and again: what is said of it is all of one content."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.errors import CheckpointError
from rnndiag.fleet.job import Job
from rnndiag.probes import Probe
from rnndiag.report import Report, from_json, to_builtins
from tests.builders.fleets import save

TRAINING = """
import itertools, os, shutil, sys, time
pauses = itertools.cycle([0.004, 0.004, 0.004, 0.3, 0.3])  # of both lengths: a slow machine reads only in the long ones
last, *contents = sys.argv[1:]
while True:
    for content in contents:
        shutil.copy(content, last + ".part")
        os.replace(last + ".part", last)
        time.sleep(next(pauses))
"""


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, float]:
    """An entry of the recurrent weight of two models, by the digest of their files."""
    told = {}
    for seed, name in enumerate("ab"):
        file = Path(save(tmp_path / f"{name}.pt", seed, hidden=32))
        weight = torch.load(file)["weight_hh_l0"]
        told[hashlib.sha256(file.read_bytes()).hexdigest()] = float(weight[0, 0])
    return told


@contextmanager
def training(folder: Path) -> Iterator[Path]:
    last = folder / "last.pt"
    last.write_bytes((folder / "a.pt").read_bytes())
    command = [sys.executable, "-c", TRAINING, str(last), str(folder / "a.pt"), str(folder / "b.pt")]
    with subprocess.Popen(command) as process:
        try:
            yield last
        finally:
            process.kill()


def test_the_digest_is_of_what_was_read(tmp_path: Path, contents: dict[str, float]) -> None:
    read = 0
    with training(tmp_path) as last:
        for _ in range(400):
            try:
                model = load(last)
            except CheckpointError as error:
                assert "it changes while it is read" in str(error)  # noqa: PT017
                continue
            read += 1
            assert float(model.stacks[0].levels[0][0].weight_hh[0, 0]) == contents[model.source.sha256]
    assert read > 20


def test_the_cache_holds_each_report_under_its_own_content(tmp_path: Path, contents: dict[str, float]) -> None:
    def bare(report: Report) -> dict[str, Any]:
        return to_builtins(replace(report, source=replace(report.source, path="")))

    job = Job(Probe(length=2, batch=1))
    plain = {
        digest: bare(job.report(str(tmp_path / f"{name}.pt"))) for digest, name in zip(contents, "ab", strict=True)
    }
    entries = 0
    with training(tmp_path) as last:
        for i in range(60):
            with suppress(CheckpointError):
                replace(job, cache=tmp_path / "cache" / str(i)).report(str(last))
            for entry in (tmp_path / "cache" / str(i)).rglob("*.json"):
                entries += 1
                assert bare(from_json(entry.read_bytes())) == plain[entry.stem]
    assert entries > 10


def test_a_file_that_stands_still_is_refused_as_before(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="no recurrent layer"):
        load(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path / "gone.pt")
