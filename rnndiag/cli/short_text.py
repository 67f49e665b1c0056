"""The short text that is printed when the report goes to a file, so that a failing command always says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rnndiag.cli.streams import print_table

if TYPE_CHECKING:
    from rnndiag.cli.run_models import Each
    from rnndiag.renderers.failures import Failure
    from rnndiag.report import Report
    from rnndiag.rules.base import Finding

MAX_SHOWN = 20
"""Models whose findings are kept and shown; the others are counted."""


def severe_findings(findings: Iterable[Finding], fail_on: str) -> list[Finding]:
    """The findings at or above a severity; errors where none makes the command fail."""
    from rnndiag.cli.gate import fails

    return [finding for finding in findings if fails([finding], "error" if fail_on == "never" else fail_on)]


def print_findings(subject: str, findings: Sequence[Finding], fail_on: str, last: str, *, quiet: bool) -> None:
    """Print the short text about one subject: its findings that count, and a last line.

    Args:
        subject: what was judged, and its verdict.
        findings: all findings.
        fail_on: the severity at which the command fails.
        last: the text of the last line.
        quiet: no color.
    """
    from rnndiag.renderers.failures import render

    print_table(render([(subject, severe_findings(findings, fail_on))], last=last), quiet=quiet)


def severity_counts(findings: Iterable[Finding], none: str = "nothing found") -> str:
    """``1 error, 2 warnings``; ``none`` for no findings."""
    from rnndiag.renderers.lines import counts_by_severity

    return counts_by_severity(Counter(finding.severity for finding in findings), none)


class ShortText:
    """The findings that count of the first models that have any, and the number of all findings."""

    def __init__(self, fail_on: str = "error") -> None:
        self._fail_on = fail_on
        self._shown: list[Failure] = []
        self._more = self._models = self._skipped = 0
        self._findings: Counter[str] = Counter()

    def add(self, report: Report) -> None:
        """Count the findings of a report."""
        from rnndiag.renderers.cases import unjudged

        self._models += 1
        self._skipped += len(unjudged(report))
        self._findings.update(finding.severity for finding in report.findings)
        found = severe_findings(report.findings, self._fail_on)
        if found and len(self._shown) < MAX_SHOWN:
            self._shown.append((f"{report.source.path}: {report.verdict}", found))
        elif found:
            self._more += 1

    def after(self, each: Each) -> Each:
        """A function that calls ``each`` and counts the findings of every report that it returns."""

        def noted(index: int, report: Report) -> Report:
            shown = each(index, report)
            self.add(shown)
            return shown

        return noted

    def show(self, verb: str, none: str = "nothing found", *, failed: int = 0, quiet: bool) -> None:
        """Print the short text; print nothing if there was no report.

        Args:
            verb: the first word of the last line, such as ``Checked``.
            none: the text if there are no findings.
            failed: the models that could not be measured.
            quiet: no color.
        """
        if not self._models:
            return
        from rnndiag.renderers.failures import render
        from rnndiag.renderers.lines import counts_by_severity, not_measured
        from rnndiag.rules.words import counted

        last = f"{verb} {counted(self._models, 'model')}: {counts_by_severity(self._findings, none)}."
        last += not_measured(failed, self._skipped)
        print_table(render(self._shown, more=self._more, last=last), quiet=quiet)
