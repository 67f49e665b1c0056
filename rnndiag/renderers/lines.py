"""The gate's text: one line per model, its findings with the first suggestion, skipped layers and assumptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rnndiag.printable import escaped_strings
from rnndiag.renderers.cases import unjudged
from rnndiag.renderers.styles import SEVERITY_STYLES, VERDICT_STYLES
from rnndiag.report import Report
from rnndiag.rules.base import SEVERITIES, Finding
from rnndiag.rules.words import counted


def render(reports: Sequence[Report], *, known: int = 0, failed: int = 0) -> RenderableType:
    """Models in the order given, and a last line that counts.

    Args:
        reports: the reports of the models that were measured.
        known: the findings of a baseline, which are left out.
        failed: the models that could not be measured.
    """
    reports = [escaped_strings(report) for report in reports]
    lines = [line for report in reports for line in _model(report, beside_baseline=known > 0)]
    total: Counter[str] = Counter(finding.severity for report in reports for finding in report.findings)
    found = counts_by_severity(total, "nothing new" if known else "nothing found")
    left_out = f" Known from the baseline: {known}." if known else ""
    missing = not_measured(failed, sum(len(unjudged(report)) for report in reports))
    return Group(*lines, Text(f"Checked {counted(len(reports), 'model')}: {found}.{left_out}{missing}", style="bold"))


def not_measured(models: int, parts: int) -> str:
    """A sentence that counts the models that failed, and in other models the parts that were skipped; or nothing."""
    counts = [counted(models, "model")] if models else []
    counts += [f"{parts} {'layer or file' if parts == 1 else 'layers or files'}"] if parts else []
    return f" Not measured: {', '.join(counts)}." if counts else ""


def _model(report: Report, *, beside_baseline: bool) -> list[RenderableType]:
    counts: Counter[str] = Counter(finding.severity for finding in report.findings)
    lag = report.stacks[0].lag
    head = Text.assemble(
        (report.source.path, "bold"),
        ": ",
        (report.verdict, VERDICT_STYLES[report.verdict]),
        f" at lag {lag}; {counts_by_severity(counts, 'nothing new' if beside_baseline else 'nothing found')}",
        no_wrap=True,  # a path broken in two is found by no one who searches a log for it
        overflow="ignore",
    )
    skipped = [_caveat(f"skipped {each.name}: {each.reason}", "yellow") for each in unjudged(report)]
    notes = [_caveat(f"note: {note}", "dim") for note in report.notes]
    missed = sorted({item.rule for item in report.not_assessed})
    tail = [_caveat(f"not assessed: {', '.join(missed)}", "dim")] if missed else []
    findings = (Padding(_finding(finding), (0, 0, 0, 2)) for finding in report.findings)
    return [head, *findings, *skipped, *notes, *tail]


def _caveat(text: str, style: str) -> RenderableType:
    return Padding(Text(text, style=style), (0, 0, 0, 2))


def _finding(finding: Finding) -> RenderableType:
    line = Text.assemble(
        (finding.severity, SEVERITY_STYLES[finding.severity]),
        f" {finding.rule} ",
        (finding.name, "bold"),
        f"{finding.where}: {finding.message}",
    )
    if finding.severity == "info" or not finding.suggestions:
        return line
    cause = Text(f"likely cause: {finding.cause}", style="italic")
    first = Text(f"try: {finding.suggestions[0].action}", style="green")
    return Group(line, Padding(Group(cause, first), (0, 0, 0, 2)))


def counts_by_severity(findings: Counter[str], none: str = "nothing found") -> str:
    """``1 error, 2 warnings``, from the number of findings of each severity; ``none`` for no findings."""
    return ", ".join(counted(findings[name], name) for name in SEVERITIES if findings[name]) or none
