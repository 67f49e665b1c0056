"""What was skipped in reading a model, and what was assumed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from rnndiag.report import Report

MOST_SKIPPED = 6


def add_caveats(grid: Table, report: Report, *, verbose: bool) -> None:
    """Add rows of two columns. With ``verbose``, every skipped entry gets a row.

    Otherwise, the first entries get a row, and all that look like a recurrent layer or a model.
    """
    skipped = sorted(report.source.skipped, key=lambda each: not each.recurrent)
    always = sum(each.recurrent for each in skipped)
    shown = skipped if verbose else skipped[: max(always, MOST_SKIPPED)]
    for each in shown:
        style = "yellow" if each.recurrent else "dim"
        grid.add_row("skipped", Text.assemble(each.name, (f"  {each.reason}", style)))
    if len(shown) < len(skipped):
        grid.add_row("", f"and {len(skipped) - len(shown)} more (--verbose lists them)")
    for note in report.notes:
        grid.add_row("note", Text(note, style="yellow"))
