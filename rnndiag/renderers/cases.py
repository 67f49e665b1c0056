"""Shared by the formats of a gate: each rule on each stack or layer, the layers not judged, findings as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from rnndiag.checkpoint.model import Skipped
from rnndiag.printable import escaped
from rnndiag.report import Report
from rnndiag.rules.base import Finding, StackRule
from rnndiag.rules.registry import FILE_RULES, REPORT_RULES, RULES


@dataclass(frozen=True, slots=True)
class Case:
    """One rule on one stack or layer: it failed, was not applied, or found nothing."""

    code: str
    name: str
    subject: str
    """name of the stack or layer; empty for the file"""
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    """why it was not applied: it could not be assessed, does not apply, or is switched off"""


def cases(report: Report) -> Iterator[Case]:
    """Stack by stack, then its layers; the rules of each in the catalogue's order.

    Layers that ``--layer`` left out of the report are there: their stack was judged with them. What the
    catalogue does not foresee comes last, so that no finding is lost.
    """
    findings: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in report.findings:
        findings[finding.rule, finding.layer].append(finding)
    for item in (*report.not_assessed, *report.switched_off, *report.not_applicable):
        reasons[item.rule, item.layer].append(item.reason)
    names = {rule.code: rule.name for rule in REPORT_RULES} | {
        finding.rule: finding.name for finding in report.findings
    }

    def case(code: str, subject: str) -> Case:
        why = "; ".join(dict.fromkeys(reasons.pop((code, subject), ()))) or None
        return Case(code, names.get(code, code), subject, tuple(findings.pop((code, subject), ())), why)

    for stack in report.stacks:
        yield from [case(rule.code, stack.name) for rule in RULES if isinstance(rule, StackRule)]
        for layer in stack.layers:
            yield from [case(rule.code, layer) for rule in RULES if not isinstance(rule, StackRule)]
    yield from [case(rule.code, "") for rule in FILE_RULES]
    yield from [case(*key) for key in dict.fromkeys((*findings, *reasons))]


def unjudged(report: Report) -> tuple[Skipped, ...]:
    """The recurrent layers, and the files of an archive, that were not measured: a verdict says nothing about them."""
    return tuple(each for each in report.source.skipped if each.recurrent)


def explained(finding: Finding) -> Iterator[str]:
    """The finding in lines of plain text: what was measured, the likely cause, what to try and why."""
    yield escaped(finding.message)
    if finding.cause:
        yield f"likely cause: {escaped(finding.cause)}"
    for suggestion in finding.suggestions:
        yield f"try: {escaped(suggestion.action)} (because {escaped(suggestion.evidence)})"
