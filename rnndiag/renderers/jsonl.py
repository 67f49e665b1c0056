"""JSON lines: one report per line."""

from __future__ import annotations

from collections.abc import Sequence

from rnndiag.fleet.lines import line
from rnndiag.report import Report


def render(reports: Sequence[Report]) -> str:
    """Each report's path, then the members of its JSON."""
    return "".join(line(report.source.path, report) for report in reports)
