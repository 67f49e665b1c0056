"""A report can be replaced without --force: the first bytes of each format of each command are recognized."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnndiag.renderers.own_reports import is_own_report
from rnndiag.renderers.registry import REPORTS as RENDERERS
from tests.builders.command_line import Cli
from tests.builders.fleets import save
from tests.builders.processes import completed

QUICK = ("--T", "12", "--batch", "3")
REPORTS = [
    *((command, format_) for command in ("inspect", "check") for format_ in ("table", *RENDERERS)),
    *(("simulate", format_) for format_ in ("table", "json")),
    *(("sweep", format_) for format_ in ("table", "json", "csv")),
    *(("trend", format_) for format_ in ("table", "json", "csv", "markdown")),
    *((command, format_) for command in ("compare", "prescribe") for format_ in ("table", "json")),
]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        save(tmp_path / f"m{i}.pt", i)
    return tmp_path


def arguments(command: str) -> tuple[str, ...]:
    return {
        "simulate": ("simulate", "--hidden", "8", "--input-size", "2", *QUICK),
        "sweep": ("sweep", "--sigma", "1,2", "--bias-scale", "0,0.5", "--hidden", "8", "--nets", "1", *QUICK),
        "trend": ("trend", "m0.pt", "m1.pt", "m2.pt", "--order", "name", *QUICK),
        "compare": ("compare", "m0.pt", "m1.pt", "--fail-on", "never", *QUICK),
        "check": ("check", "m0.pt", "m1.pt", "--fail-on", "never", *QUICK),
    }.get(command, (command, "m0.pt", *QUICK))


@pytest.mark.parametrize(("command", "format_"), REPORTS)
def test_a_report_is_recognized_and_replaced(cli: Cli, models: Path, command: str, format_: str) -> None:
    report = models / "report"
    for _ in range(2):
        done = cli(*arguments(command), "--format", f"{format_}={report}")
        assert (done.code, done.err) == (0, f"rnndiag: wrote {report}\n")
        assert is_own_report(report)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("command", ["inspect", "check", "prescribe", "trend", "sweep", "compare"])
def test_a_redirected_table_is_recognized(
    cli: Cli, models: Path, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    """Such a table is as wide as COLUMNS says, and the name of the model may not fit into it."""
    long = "a" * 90 + ".pt"
    (models / "m0.pt").rename(models / long)
    monkeypatch.setenv("COLUMNS", str(width))
    done = cli(*(long if each == "m0.pt" else each for each in arguments(command)))
    assert (done.code, done.err) == (0, "")
    assert all(len(line) <= width or long in line for line in done.out.splitlines())  # a path is never broken
    (models / "report").write_text(done.out, encoding="utf-8")
    assert is_own_report(models / "report")


def test_the_bytes_of_a_redirected_table_are_recognized(models: Path) -> None:
    (models / "report").write_bytes(completed(*arguments("inspect"), COLUMNS="60").stdout)
    assert is_own_report(models / "report")


FOREIGN = {
    "junit of pytest": '<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"></testsuites>',
    "sarif of another tool": '{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", '
    '"runs": [{"tool": {"driver": {"name": "ruff"}}}]}',
    "json": '{"schema_version": "1", "points": []}',
    "json lines": '{"path": "a.pt", "size": 3}\n{"path": "b.pt", "size": 4}\n',
    "csv": "path,step,loss\na,1,2\n",
    "markdown": "## A heading: healthy\n\nText.\n",
    "notes": "model a.pt is the best one so far\nprobe it again\n",
    "log of a sweep": '{"format":"rnndiag sweep 1","axes":{"sigma":[1.0]}}\n',
    "annotations": "::error file=app.js,line=1::Missing semicolon\n",
    "blanks": " " * 20_000,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_program_is_not(cli: Cli, models: Path, content: str) -> None:
    other = models / "other"
    other.write_text(content, encoding="utf-8")
    assert not is_own_report(other)
    done = cli("inspect", "m0.pt", *QUICK, "-o", other)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"rnndiag: error: {other}: exists and is not a report of rnndiag; name another file, or replace it with "
        "--force\n"
    )
    assert other.read_text(encoding="utf-8") == content
    assert cli("inspect", "m0.pt", *QUICK, "-o", other, "--force").code == 0
    assert is_own_report(other)
