"""Apply the rules to what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from rnndiag.rules.base import SEVERITIES, Finding, NotAssessed, Subject
from rnndiag.rules.policy import Policy
from rnndiag.rules.registry import FILE_RULES, RULES

if TYPE_CHECKING:
    from rnndiag.checkpoint.model import Source


@dataclass(frozen=True, slots=True)
class Assessment:
    """What became of every rule on everything that it looks at."""

    findings: tuple[Finding, ...]
    """the most severe first"""
    not_assessed: tuple[NotAssessed, ...]
    """rules that lacked a measure"""
    switched_off: tuple[NotAssessed, ...]
    """rules that the policy did not want"""
    not_applicable: tuple[NotAssessed, ...] = ()
    """rules that are about another kind of layer or stack"""


def assess(subjects: Iterable[Subject], policy: Policy, source: Source | None = None) -> Assessment:
    """Apply every rule that the policy wants to everything that it looks at; ``source`` is the file of the model."""
    findings: list[Finding] = []
    not_assessed: list[NotAssessed] = []
    switched_off: list[NotAssessed] = []
    not_applicable: list[NotAssessed] = []
    for subject, rule in product(subjects, RULES):
        for name, reason in rule.targets(subject):
            if not policy.wants(rule, name):
                switched_off.append(NotAssessed(rule.code, name, "switched off"))
                continue
            excluded = rule.excludes(name, subject)
            if excluded is not None:
                not_applicable.append(NotAssessed(rule.code, name, excluded))
                continue
            if reason is not None:
                not_assessed.append(NotAssessed(rule.code, name, reason))
                continue
            severity = policy.severity(rule, name)
            found = rule.assess(name, subject, policy.thresholds(rule, name))
            findings += (replace(finding, severity=severity) for finding in found)
    if source is not None:
        for file_rule in FILE_RULES:
            if policy.wants(file_rule, ""):
                severity = policy.severity(file_rule, "")
                findings += (replace(finding, severity=severity) for finding in file_rule.assess_file(source))
            else:
                switched_off.append(NotAssessed(file_rule.code, "", "switched off"))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable: catalogue order within
    return Assessment(tuple(findings), tuple(not_assessed), tuple(switched_off), tuple(not_applicable))
