"""Workflow commands, read as GitHub's runner reads them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from rnndiag.printable import escaped
from rnndiag.renderers import github
from tests.builders.reports import HOSTILE, broken, golden, healthy, hostile, vanishing


def read(line: str) -> tuple[str, dict[str, str], str]:
    """Command, properties and message of one line, in the runner's order: split first, unescape then."""
    found = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line)
    assert found is not None, line
    pairs = dict(pair.split("=", 1) for pair in found[2].split(","))
    return found[1], {key: unescape(value) for key, value in pairs.items()}, unescape(found[3])


def unescape(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def test_a_line_for_each_finding_and_one_for_each_model() -> None:
    reports = [vanishing(), broken(), healthy()]
    lines = [read(line) for line in github.render(reports).splitlines()]
    assert len(lines) == sum(len(report.findings) + 1 for report in reports)
    for report in reports:
        for finding in report.findings:
            command, properties, message = lines.pop(0)
            assert command == {"error": "error", "warning": "warning", "info": "notice"}[finding.severity]
            assert properties["file"] == report.source.path
            assert properties["title"] == f"{finding.rule} {finding.name} ({finding.layer})"
            assert message.startswith(finding.message)
            if finding.suggestions:
                assert message.endswith(f"\ntry: {finding.suggestions[0].action}")
        command, properties, message = lines.pop(0)
        assert (command, properties["title"]) == ("notice", f"rnndiag: {report.verdict}")
        assert message.startswith(report.summary)
        assert all(item.rule in message and item.reason in message for item in report.not_assessed)


def test_no_reports() -> None:
    assert github.render([]) == ""


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_no_name_forges_or_breaks_a_command(name: str, sound: bool) -> None:
    report = hostile(name, sound)
    text = github.render([report])
    text.encode("utf-8")
    assert text.endswith("\n")
    lines = text.splitlines()  # also at the separators that only Python knows
    assert len(lines) == len(report.findings) + 1
    for line in lines:
        _, properties, _ = read(line)
        assert list(properties) == ["file", "title"]
        assert properties["file"] == escaped(name, keep="\t\r\n")
    assert read(lines[0])[2].startswith(escaped(name, keep="\r\n"))


def test_golden(agrees: Callable[[str, str], None]) -> None:
    agrees(github.render(golden()), "github.txt")
