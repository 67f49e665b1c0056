"""Annotations: workflow commands that GitHub Actions reads from the log of a step.

The escapes are those of GitHub's own toolkit (``@actions/core``, ``command.ts``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rnndiag.printable import escaped, without_commands
from rnndiag.renderers.cases import unjudged
from rnndiag.report import Report
from rnndiag.rules.base import Finding

COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def render(reports: Sequence[Report]) -> str:
    """Lines for each finding, for what was not measured, and for each model's verdict."""
    return "".join(f"{line}\n" for report in reports for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    path = report.source.path
    for finding in report.findings:
        title = f"{finding.rule} {finding.name}" + (f" ({finding.layer})" if finding.layer else "")
        yield _command(COMMANDS[finding.severity], path, title, _message(finding))
    if missing := unjudged(report):
        # GitHub shows only ten annotations of each kind per step, so each model gets one.
        listed = "\n".join(f"{skipped.name}: {skipped.reason}" for skipped in missing)
        yield _command("warning", path, "rnndiag: not everything was measured", listed)
    yield _command("notice", path, f"rnndiag: {report.verdict}", "\n".join(_verdict(report)))


def _message(finding: Finding) -> str:
    if not finding.suggestions:
        return f"{finding.message}\nlikely cause: {finding.cause}"
    return f"{finding.message}\nlikely cause: {finding.cause}\ntry: {finding.suggestions[0].action}"


def _verdict(report: Report) -> Iterator[str]:
    yield report.summary
    yield from (f"Note: {note}" for note in report.notes)
    if report.not_assessed:
        rules = ", ".join(dict.fromkeys(item.rule for item in report.not_assessed))
        reasons = "; ".join(dict.fromkeys(f"{item.layer}: {item.reason}" for item in report.not_assessed))
        yield f"Not assessed: {rules} ({reasons})"


def _command(command: str, file: str, title: str, message: str) -> str:
    # A tab in a path must stay, or the path would not name the file: GitHub has no escape for it.
    path = _property(file, keep="\t\r\n")
    line = f"{command} file={path},title={_property(title)}::{_data(message)}"
    return f"::{without_commands(line)}"  # other CI systems find their commands anywhere in a line


def _data(text: str, keep: str = "\r\n") -> str:
    return escaped(text, keep).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str, keep: str = "\r\n") -> str:
    return _data(text, keep).replace(":", "%3A").replace(",", "%2C")
