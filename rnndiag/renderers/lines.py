"""The gate's output: a line a model, and under it each finding with the first thing to try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rnndiag.printable import escaped_strings
from rnndiag.renderers.styles import SEVERITY_STYLES, VERDICT_STYLES
from rnndiag.report import Report
from rnndiag.rules.base import Finding

PLURAL = {"error": "errors", "warning": "warnings", "info": "infos"}


def render(reports: Sequence[Report], *, known: int = 0) -> RenderableType:
    """Models in the order given, and a last line that counts; ``known`` findings of a baseline are left out."""
    reports = [escaped_strings(report) for report in reports]
    lines = [line for report in reports for line in _model(report, beside_baseline=known > 0)]
    total: Counter[str] = Counter(finding.severity for report in reports for finding in report.findings)
    models = "1 model" if len(reports) == 1 else f"{len(reports)} models"
    counted = _counted(total, "nothing new" if known else "nothing found")
    left_out = f" Known from the baseline: {known}." if known else ""
    return Group(*lines, Text(f"Checked {models}: {counted}.{left_out}", style="bold"))


def _model(report: Report, *, beside_baseline: bool) -> list[RenderableType]:
    counts: Counter[str] = Counter(finding.severity for finding in report.findings)
    lag = report.stacks[0].lag
    head = Text.assemble(
        (report.source.path, "bold"),
        ": ",
        (report.verdict, VERDICT_STYLES[report.verdict]),
        f" at lag {lag}; {_counted(counts, 'nothing new' if beside_baseline else 'nothing found')}",
        no_wrap=True,  # a path broken in two is found by no one who searches a log for it
        overflow="ignore",
    )
    missed = sorted({item.rule for item in report.not_assessed})
    tail = [Padding(Text(f"not assessed: {', '.join(missed)}", style="dim"), (0, 0, 0, 2))] if missed else []
    return [head, *(Padding(_finding(finding), (0, 0, 0, 2)) for finding in report.findings), *tail]


def _finding(finding: Finding) -> RenderableType:
    line = Text.assemble(
        (finding.severity, SEVERITY_STYLES[finding.severity]),
        f" {finding.rule} ",
        (finding.name, "bold"),
        f" in {finding.layer}: {finding.message}",
    )
    if finding.severity == "info" or not finding.suggestions:
        return line
    cause = Text(f"likely cause: {finding.cause}", style="italic")
    first = Text(f"try: {finding.suggestions[0].action}", style="green")
    return Group(line, Padding(Group(cause, first), (0, 0, 0, 2)))


def _counted(severities: Counter[str], none: str) -> str:
    counts = [(severities[name], name) for name in PLURAL if severities[name]]
    return ", ".join(f"{n} {name if n == 1 else PLURAL[name]}" for n, name in counts) or none
