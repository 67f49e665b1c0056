"""README, docs and the sample models' table say what is true."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from rnndiag.kinds import KINDS
from rnndiag.treatments.registry import NAMES
from tests.builders.command_line import Cli
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README + CI, re.S) for line in block.splitlines() if line]
COMMANDS = [line.split(" # ")[0] for line in SHELL if line.startswith("rnndiag ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_works(cli: Cli, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample_models").symlink_to(ROOT / "sample_models")
    if "--baseline baseline.json" in line:
        (write,) = [each for each in COMMANDS if "--write-baseline" in each]
        cli(*shlex.split(write)[1:])
    done = cli(*shlex.split(line)[1:])
    assert done.code == 0
    files = re.findall(r"--format \w+=(\S+)|--write-baseline (\S+)", line)
    assert done.err.splitlines() == [f"rnndiag: wrote {''.join(file)}" for file in files]
    assert done.out


def test_there_are_commands_to_hold_true() -> None:
    assert {line.split()[1] for line in COMMANDS} == {
        "inspect",
        "simulate",
        "sweep",
        "check",
        "compare",
        "prescribe",
        "trend",
        "rules",
        "explain",
        "schema",
    }
    assert README.count("<!-- set-up -->") == 2


def test_the_config_shown_is_valid(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = [text for text in re.findall(r"```yaml\n(.*?)```", CI, re.S) if text.startswith("paths:")]
    (tmp_path / "rnndiag.yaml").write_text(example, encoding="utf-8")
    done = cli("check", "--show-config")
    assert (done.code, done.err) == (0, "")
    assert "layers['encoder.*'].rules.SAT001.rate" in done.out.replace("\n", "")


def test_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example, in_a_test = re.findall(r"```python\n(.*?)```", README + CI, re.S)
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {})
    exec(compile(in_a_test, "ci.md", "exec"), {})
    assert capsys.readouterr().out.startswith("healthy ")


def test_output_shown_is_what_the_first_command_prints(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (shown,) = re.findall(r"<!-- output -->\n```\n(.*?)```", README, re.S)
    printed = {
        line.rstrip() for line in cli("inspect", "sample_models/vanishing_tanh.pt", "--T", "64").out.splitlines()
    }
    missing = [line for line in shown.splitlines() if line.strip() not in ("", "...") and line.rstrip() not in printed]
    assert missing == []


def test_the_prescription_shown_is_what_is_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "treatments.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- output -->\n```\n(.*?)```", page, re.S)
    out = cli("prescribe", "sample_models/exploding_tanh.pt", "--T", "64").out
    printed = [line.rstrip() for line in out.splitlines() if line.strip()]
    assert [line.rstrip() for line in shown.splitlines() if line.strip()] == printed
    for name in NAMES:
        assert f"`{name}`" in page


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "sample_models" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


TABLE = re.findall(
    r"^\| `(\w+\.pt)` \|.*?\| \*\*(\w+)\*\*.*? \| ([01]) \| ",
    (ROOT / "sample_models" / "README.md").read_text(encoding="utf-8"),
    re.M,
)


@pytest.mark.parametrize(("file", "verdict", "code"), TABLE)
def test_the_sample_models_verdicts(cli: Cli, file: str, verdict: str, code: str) -> None:
    path = ROOT / "sample_models" / file
    done = cli("inspect", path, "--T", "64", "--format", "json")
    assert json.loads(done.out)["verdict"] == verdict
    assert path.stat().st_size < 300_000
    assert cli("check", path, "--T", "64").code == int(code)


def test_every_sample_model_is_in_the_table() -> None:
    assert {file for file, *_ in TABLE} == {path.name for path in (ROOT / "sample_models").glob("*.pt")}


def test_the_page_of_cells_lists_every_kind() -> None:
    page = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert set(KINDS) <= listed
