"""Findings and suggestions: what is wrong, how one knows, what to try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rnndiag.renderers.styles import SEVERITY_STYLES
from rnndiag.report import Report
from rnndiag.rules.base import Finding

if TYPE_CHECKING:
    from rnndiag.trend.data import Trend


def findings_section(report: Report | Trend) -> RenderableType:
    """Each finding with its suggestions, then the rules that could not be assessed."""
    parts: list[RenderableType] = []
    for finding in report.findings:
        parts += ["", _finding(finding)]
    if not report.findings:
        parts += ["", Text("No findings.", style="green")]
    if report.not_assessed:
        rules = ", ".join(dict.fromkeys(item.rule for item in report.not_assessed))
        where = ", ".join(dict.fromkeys(item.layer for item in report.not_assessed))
        # Each reason names the measures that were missing; what they have in common comes last.
        reasons = "; ".join(dict.fromkeys(item.reason.rpartition(": ")[2] for item in report.not_assessed))
        parts += ["", Text(f"Not assessed in {where}: {rules} ({reasons})", style="dim")]
    return Group(*parts)


def _finding(finding: Finding) -> RenderableType:
    heading = Text.assemble(
        (finding.severity, SEVERITY_STYLES[finding.severity]),
        " ",
        (f"{finding.rule} {finding.name}", "bold"),
        finding.where,
    )
    tries = Table.grid(padding=(0, 1))
    tries.add_column(style="green", no_wrap=True)
    tries.add_column(overflow="fold")
    for suggestion in finding.suggestions:
        tries.add_row("try", suggestion.action)
        tries.add_row("", Text(f"because {suggestion.evidence}", style="dim"))
    cause = Text(f"likely cause: {finding.cause}", style="italic")
    return Group(heading, Padding(Group(Text(finding.message), cause, tries), (0, 0, 0, 2)))
