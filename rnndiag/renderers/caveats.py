"""What was passed over in reading a model and what was taken for granted: all that its numbers rest on."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from rnndiag.report import Report

MOST_SKIPPED = 6


def add_caveats(grid: Table, report: Report, *, verbose: bool) -> None:
    """Rows of two columns; ``verbose``: all that was passed over, not only the first of it."""
    skipped = report.source.skipped
    shown = skipped if verbose else skipped[:MOST_SKIPPED]
    for each in shown:
        grid.add_row("passed over", Text.assemble(each.name, (f"  {each.reason}", "dim")))
    if len(shown) < len(skipped):
        grid.add_row("", f"and {len(skipped) - len(shown)} more (--verbose lists them)")
    for note in report.notes:
        grid.add_row("note", Text(note, style="yellow"))
