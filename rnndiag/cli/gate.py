"""Which findings of a report count for the gate, with a baseline or without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnndiag.cli.choices import Choices
    from rnndiag.report import Report
    from rnndiag.rules.base import Finding

FAILED = 1
"""The exit code for findings at or above a severity."""


def fails(findings: Iterable[Finding], fail_on: str) -> bool:
    """Whether a finding is at or above a severity."""
    from rnndiag.rules.base import SEVERITIES

    if fail_on == "never":
        return False
    counting = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return any(finding.severity in counting for finding in findings)


class Gate:
    """Selects the findings of each report that count, and notes whether any of them makes the command fail.

    With a baseline, only the findings that are new or worse than in the baseline count. The baseline is read at once,
    so that its errors are known before anything is measured.

    Raises:
        BaselineError: for a baseline that cannot be read, or is of another version.
    """

    def __init__(self, chosen: Choices, baseline: Path | None, *, keep: bool) -> None:
        self._fail_on, self._baseline, self._keep = chosen.values.fail_on, baseline, keep
        self._old = () if baseline is None else _baseline_reports(baseline, chosen)
        self.failed = False
        self.known = 0
        """findings that the baseline has"""
        self.full_reports: dict[int, Report] = {}
        """the reports with all findings, by the index of their paths, if ``keep``"""

    def __call__(self, index: int, report: Report) -> Report:
        """The report with the findings that count.

        Raises:
            BaselineError: if the baseline has no report of the model, or one of another model or measurement.
        """
        shown = report if self._baseline is None else self._only_worse(report, str(self._baseline))
        if self._keep:
            self.full_reports[index] = report
        self.known += len(report.findings) - len(shown.findings)
        self.failed |= fails(shown.findings, self._fail_on)
        return shown

    @property
    def baseline_digest(self) -> str:
        """A digest of the baseline, which the findings depend on; empty without a baseline."""
        if self._baseline is None:
            return ""
        import hashlib

        from rnndiag.report import to_json

        return hashlib.sha256(b"\n".join(to_json(each) for each in self._old)).hexdigest()

    def _only_worse(self, report: Report, baseline: str) -> Report:
        from rnndiag.comparison.baseline import difference, match

        return replace(report, findings=difference(match(report, self._old, baseline), report).worse)


def _baseline_reports(baseline: Path, chosen: Choices) -> Sequence[Report]:
    from rnndiag.comparison.baseline import is_report, read_reports

    if is_report(baseline) or not baseline.exists():
        return read_reports(baseline)
    return (chosen.inspect(baseline, treat=False),)  # only its findings count
