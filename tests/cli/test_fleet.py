"""Fleets on the command line: caches, files to go on with, options; the serial run is the oracle."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.builders.command_line import Cli, bare, lines
from tests.builders.fleets import save, ten

QUICK = ("--T", "12", "--batch", "3", "--exponents", "2")


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    return ten(tmp_path / "models")


# The cache


def test_what_is_unchanged_is_not_measured_again(cli: Cli, models: list[str], tmp_path: Path) -> None:
    plain = cli("inspect", *models, *QUICK, "--format", "json")
    told = ("inspect", *models, *QUICK, "--format", "json", "--cache", tmp_path / "cache")
    first, second = cli(*told), cli(*told)
    assert first == second == plain
    entries = sorted((tmp_path / "cache").rglob("*.json"))
    assert len(entries) == len(models) - 1  # all but the file that is no model
    # What an entry says is what comes out: it was not measured.
    entry = next(each for each in entries if b"m3.pt" in each.read_bytes())
    entry.write_bytes(entry.read_bytes().replace(b'"summary":"', b'"summary":"From the cache. '))
    marked = {report["source"]["path"]: report["summary"] for report in json.loads(cli(*told).out)}
    assert [path for path in marked if "From the cache" in marked[path]] == [models[3]]
    # Other options, another content, and an entry that is damaged: measured.
    other = cli("inspect", models[3], "--T", "13", "--format", "json", "--cache", tmp_path / "cache")
    assert "From the cache" not in other.out
    save(Path(models[3]), 99)
    changed = json.loads(cli(*told).out)[3]
    assert "From the cache" not in changed["summary"]
    assert changed["source"]["sha256"] not in entry.name
    for each in entries:
        each.write_bytes(each.read_bytes()[:100])
    save(Path(models[3]), 3)
    assert cli(*told) == plain


def test_a_copy_elsewhere_has_its_own_path(cli: Cli, models: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(models[0]).read_bytes())
    for path in (models[0], str(copy)):
        done = cli("inspect", path, *QUICK, "--format", "json", "--cache", tmp_path / "cache")
        assert json.loads(done.out)["source"]["path"] == path
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1


# Files to go on with


def test_a_file_is_gone_on_with(cli: Cli, models: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    told = ("check", *QUICK, "--format", f"jsonl={out}", "--fail-on", "never")
    whole = cli(*told, *models, tmp_path / "gone.pt")
    assert whole.code == 2
    full = lines(out.read_text(encoding="utf-8"))
    assert [line["path"] for line in full] == [*models, str(tmp_path / "gone.pt")]
    assert [sorted(line) for line in full if "error" in line] == [["conditions", "error", "path"]] * 2
    text = out.read_bytes().splitlines(keepends=True)
    # A run that was cut: two whole lines, an error, and a torn line. One of the two is marked.
    marked = text[0].replace(b'"summary": "', b'"summary": "Known. ')
    out.write_bytes(marked + text[1] + text[9] + text[2][:50])
    save(Path(models[9]), 9)  # and the file that was no model has been mended
    again = cli(*told, *models, "--resume", "--format", f"json={tmp_path / 'all.json'}")
    assert again.code == 0
    now = lines(out.read_text(encoding="utf-8"))
    assert [line["path"] for line in now] == models
    assert now[0]["summary"].startswith("Known. ")
    assert [bare(line) for line in now[1:9]] == [bare(line) for line in full[1:9]]
    assert json.loads((tmp_path / "all.json").read_text(encoding="utf-8")) == [bare(line) for line in now]
    assert cli(*told, *models, "--resume").code == 0
    assert lines(out.read_text(encoding="utf-8")) == now


def test_a_torn_line_is_cut_off_where_it_lies(cli: Cli, models: list[str], tmp_path: Path) -> None:
    """A file of gigabytes is not copied for it: it is the same file afterwards, and the whole lines stay."""
    out = tmp_path / "out.jsonl"
    told = ("inspect", *models[:4], *QUICK, "--format", f"jsonl={out}")
    assert cli(*told).code == 0
    whole, inode = out.read_bytes(), out.stat().st_ino
    for cut in (len(whole), len(whole) - 1, len(whole) - 3000, 5, 0):
        os.truncate(out, cut)
        assert cli(*told, "--resume").code == 0
        assert (out.read_bytes(), out.stat().st_ino) == (whole, inode)


def test_the_gate_counts_what_an_earlier_run_found(cli: Cli, models: list[str], tmp_path: Path) -> None:
    told = ("check", models[8], *QUICK, "--format", f"jsonl={tmp_path / 'out.jsonl'}")
    assert cli(*told).code == 1
    assert cli(*told, "--resume").code == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not JSON\n", "line 1 of .* is not a result of --format jsonl"),
        (b'{"path": "a.pt", "verdict": "healthy"}\n', "line 1 of .* was measured with another probe"),
        (b"[1]\n", "line 1 of .* is not a result"),
    ],
)
def test_another_file_is_not_gone_on_with(
    cli: Cli,
    models: list[str],
    tmp_path: Path,
    content: bytes,
    message: str,
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(content)
    done = cli("inspect", models[0], *QUICK, "--format", f"jsonl={out}", "--resume")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert re.search(message, done.err)
    assert out.read_bytes() == content


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers: expected at least 1 process, got 0"),
        (["--workers", "-3"], "--workers: expected at least 1 process, got -3"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:8786"], "leave out one of them"),
        (["--scheduler", "nonsense"], "expected an address such as tcp://host:8786, got 'nonsense'"),
        (["--resume"], "--resume: expected --format jsonl=FILE as well"),
        (["--resume", "--format", "jsonl"], "--resume: expected --format jsonl=FILE as well"),
        (["--import", "a:b", "--workers", "2"], "--workers with --import"),
        (["--cache", "/dev/null/there"], "--cache /dev/null/there: expected a folder"),
        (["--format", "jsonl", "--format", "jsonl={tmp}/x"], "--format jsonl: expected once"),
    ],
)
def test_options_that_do_not_go_together(
    cli: Cli,
    models: list[str],
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    done = cli("inspect", models[0], *QUICK, *(each.format(tmp=tmp_path) for each in options))
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert message in done.err


def test_a_scheduler_that_does_not_answer(cli: Cli, models: list[str]) -> None:
    done = cli("inspect", *models, *QUICK, "--scheduler", "tcp://127.0.0.1:9")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "--scheduler tcp://127.0.0.1:9: no scheduler answers there" in done.err
