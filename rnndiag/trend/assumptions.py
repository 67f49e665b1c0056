"""A run whose files do not say tanh or ReLU is judged under the assumption; a finding says what depends on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rnndiag.measures.alternative import as_assumed
from rnndiag.measures.verdict import worst
from rnndiag.report import Report
from rnndiag.rules.assumptions import NonlinearityUndecided
from rnndiag.rules.base import Finding
from rnndiag.rules.drift import step as shown


def under_the_assumption(report: Report) -> Report:
    """A report with the verdicts under its assumption, so that only training can change a verdict along a run."""
    stacks = tuple(map(as_assumed, report.stacks))
    layers = tuple(map(as_assumed, report.layers))
    return replace(report, stacks=stacks, layers=layers, verdict=worst([stack.verdict for stack in stacks]))


def undecided(placed: Sequence[tuple[float, Report]]) -> Iterator[Finding]:
    """One finding for each stack whose verdict depends on the assumption at some checkpoint."""
    found: dict[str, list[tuple[float, Finding]]] = {}
    for step, report in placed:
        for finding in report.findings:
            if finding.rule == NonlinearityUndecided.code:
                found.setdefault(finding.layer, []).append((step, finding))
    for along in found.values():
        step, last = along[-1]
        where = f"at {len(along)} of {len(placed)} checkpoints, most recently at step {shown(step)}"
        evidence = {**last.evidence, "checkpoints": len(along), "step": step}
        yield replace(last, message=f"{where}: {last.message}", evidence=evidence)
