"""No output overwrites what a command reads, however its paths are given; nothing is opened before that is known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.command_line import Cli
from tests.builders.fleets import save

QUICK = ("--T", "12", "--batch", "3", "--exponents", "1")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, hard and soft links to one of them, a config that names the folder, a baseline."""
    monkeypatch.chdir(tmp_path)
    Path("run/deep").mkdir(parents=True)
    for i, name in enumerate(("run/1.pt", "run/deep/2.pt", "run/3.pt")):
        save(Path(name), i)
    os.link("run/deep/2.pt", "hard.json")
    Path("soft.json").symlink_to("run/deep/2.pt")
    Path("rnndiag.yaml").write_text("paths: [run/]\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("paths", [["run"], ["run/**/*.pt"], []], ids=["folder", "pattern", "config"])
@pytest.mark.parametrize("output", ["run/deep/2.pt", "hard.json", "soft.json", "rnndiag.yaml"])
@pytest.mark.parametrize(
    "told",
    [
        ["check", "--format", "json", "--output", "{}"],
        ["check", "--write-baseline", "{}"],
        ["inspect", "--format", "jsonl={}"],
        ["trend", "--format", "csv={}"],
    ],
    ids=lambda told: told[0] + told[1],
)
def test_an_output_never_overwrites_what_is_read(
    cli: Cli, run: Path, told: list[str], output: str, paths: list[str]
) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()}
    done = cli(told[0], *paths, *QUICK, *(word.format(output) for word in told[1:]))
    assert (done.code, done.out) == (2, "")
    assert f"{output}: is one of the inputs, and would be overwritten; name another file" in done.err
    assert {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()} == before


def test_a_report_may_lie_among_the_models(cli: Cli, run: Path) -> None:
    for _ in range(2):
        assert cli("inspect", "run", *QUICK, "--format", "json=run/out.json").code == 0


def test_a_baseline_is_written_anew_by_no_other_output(cli: Cli, run: Path) -> None:
    assert cli("check", "run", *QUICK, "--fail-on", "never", "--write-baseline", "kept.json").code == 0
    done = cli("check", "run", *QUICK, "--baseline", "kept.json", "--format", "json=kept.json")
    assert (done.code, "kept.json: is one of the inputs" in done.err) == (2, True)
    done = cli("check", "run", *QUICK, "--baseline", "kept.json", "--write-baseline", "kept.json")
    assert (done.code, done.err) == (0, "rnndiag: wrote kept.json\n")
