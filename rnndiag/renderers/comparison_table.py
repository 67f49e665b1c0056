"""A comparison for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rnndiag.comparison.compare import Comparison
from rnndiag.printable import escaped_strings
from rnndiag.renderers.numbers import short
from rnndiag.renderers.styles import SEVERITY_STYLES, VERDICT_STYLES
from rnndiag.renderers.tables import titled_table

SIGNIFICANT = {True: "yes", False: "no", None: ""}


def render(comparison: Comparison) -> RenderableType:
    """Each measure side by side, then the findings that are new or worse, and those that are gone."""
    comparison = escaped_strings(comparison)
    measures = titled_table(f"{comparison.base} against {comparison.new}")
    for heading in ("where", "measure"):
        measures.add_column(heading, overflow="fold")
    for heading in ("base", "new", "change"):
        measures.add_column(heading, justify="right")
    measures.add_column("significant")
    for change in comparison.changes:
        difference = change.new - change.base
        row = (short(change.base), short(change.new), f"{'+' if difference > 0 else ''}{short(difference, 2)}")
        style = "bold" if change.significant else ""
        measures.add_row(change.where, change.measure, *row, SIGNIFICANT[change.significant], style=style)
    was, now = comparison.verdicts
    verdict = Text.assemble("\nVerdict: ", (was, VERDICT_STYLES[was]), " before, ", (now, VERDICT_STYLES[now]), " now.")
    lines: list[RenderableType] = [measures, verdict]
    for heading, findings in (("worse", comparison.findings.worse), ("fixed", comparison.findings.fixed)):
        for finding in findings:
            style = SEVERITY_STYLES[finding.severity] if heading == "worse" else "green"
            lines.append(
                Text.assemble((heading, style), f" {finding.rule} {finding.name}{finding.where}: {finding.message}")
            )
    if not comparison.findings.worse:
        lines.append(Text("Nothing is worse.", style="green"))
    return Group(*lines)
