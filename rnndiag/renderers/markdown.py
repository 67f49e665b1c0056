"""Markdown for a job's summary or a comment: GitHub's dialect (GFM)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rnndiag.measures.layer import LayerMeasures
from rnndiag.printable import escaped, escaped_strings
from rnndiag.renderers.cases import unjudged
from rnndiag.renderers.numbers import percent, short, signed
from rnndiag.renderers.tables import cell_and_size
from rnndiag.renderers.theory import markdown_blocks
from rnndiag.report import Report
from rnndiag.rules.base import Finding

if TYPE_CHECKING:
    from rnndiag.trend.data import Trend

COLUMNS = (
    "layer",
    "cell, size",
    "‖W_hh‖",
    "median ‖J_t‖",
    "log10 gain (95 %)",
    "horizon",
    "top exponent",
    "saturated",
    "verdict",
)


def render(reports: Sequence[Report]) -> str:
    """A section for each model, under a heading of the second level."""
    return "\n".join(f"{line}\n" for report in map(escaped_strings, reports) for line in _blocks(report))


def _blocks(report: Report) -> Iterator[str]:
    yield f"## {code(report.source.path)}: {report.verdict}"
    yield f"**Summary:** {prose(report.summary)}"
    yield "\n".join(_table(report))
    if missing := unjudged(report):
        lines = (f"- Not measured: {code(each.name)}: {prose(each.reason)}" for each in missing)
        yield "\n".join(lines)
    if report.notes:
        yield "\n".join(f"- Note: {prose(note)}" for note in report.notes)
    if report.theory is not None:
        yield from markdown_blocks(report.theory)
    yield from findings_blocks(report)


def findings_blocks(report: Report | Trend) -> Iterator[str]:
    """What was found, and what could not be assessed."""
    yield "### Findings"
    yield "\n".join(line for finding in report.findings for line in _finding(finding)) or "None."
    if report.not_assessed:
        yield "### Not assessed"
        yield "\n".join(_not_assessed(report))


def _table(report: Report) -> Iterator[str]:
    yield row(map(prose, COLUMNS))
    yield row(["---", "---", *["---:"] * (len(COLUMNS) - 3), "---"])
    for layer in report.layers:
        yield row(_cells(layer, report.probe.length))


def _cells(layer: LayerMeasures, length: int) -> Iterator[str]:
    weight, jacobian, gradient, spectrum = layer.recurrent_weight, layer.jacobian, layer.gradient, layer.lyapunov
    yield code(layer.name)
    yield prose(cell_and_size(layer, "→"))
    yield short(weight.spectral_norm) if weight else "-"
    yield short(jacobian.norm_median) if jacobian else "-"
    if gradient:
        low, high = gradient.log10_gain_interval
        yield f"{signed(gradient.log10_gain)} ({signed(low)}..{signed(high)})"
        yield prose(str(gradient.horizon) if gradient.horizon else f">{length}")
    else:
        yield from ("-", "-")
    yield f"{spectrum.exponents[0]:.4f} ± {short(spectrum.standard_errors[0], 1)}" if spectrum else "-"
    yield prose(percent(layer.saturation.rate)) if layer.saturation else "-"
    yield layer.verdict


def row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def _finding(finding: Finding) -> Iterator[str]:
    what = f"**{finding.severity}** {prose(finding.rule)} {prose(finding.name)}"
    where = f" in {code(finding.layer)}" if finding.layer else ""
    yield f"- {what}{where}: {prose(finding.message)}"
    yield f"  - likely cause: {prose(finding.cause)}"
    for suggestion in finding.suggestions:
        yield f"  - try: {prose(suggestion.action)}"
        yield f"    - because {prose(suggestion.evidence)}"


def _not_assessed(report: Report | Trend) -> Iterator[str]:
    rules: dict[tuple[str, str], list[str]] = {}
    for item in report.not_assessed:
        rules.setdefault((item.layer, item.reason), []).append(item.rule)
    for (layer, reason), codes in rules.items():
        yield f"- {prose(', '.join(dict.fromkeys(codes)))} in {code(layer)}: {prose(reason)}"


def code(name: str) -> str:
    """A name as inline code, in a table or out of it.

    A code span where that is safe. A span cannot hold a pipe both in a table and out of it, nor escape a
    backtick; character references can, as they never open or close anything.
    """
    shown = escaped(name)
    if shown and shown == shown.strip() and not re.search(r"[`|\\]|##", shown):
        return f"`{shown}`"
    return "<code>" + re.sub(r"[^\w /]|_", lambda found: f"&#{ord(found[0])};", shown) + "</code>"


def prose(text: str) -> str:
    """Text that means itself in the middle of a line, in a table or out of it.

    A dollar needs a reference, as GitHub looks for mathematics before it looks at escapes. Mentions,
    issues and addresses it looks for last, in the text that is left; an empty comment breaks that text.
    """
    plain = re.sub(r"[\\`*_\[\]<>&~|!]", lambda found: "\\" + found[0], escaped(text))
    return re.sub(r"[@#]|www(?=\.)|:(?=//)", lambda found: f"{found[0]}<!-- -->", plain.replace("$", "&dollar;"))
