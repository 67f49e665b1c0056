"""The rules of trends on a run: at its end, and at each checkpoint along it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rnndiag.measures.series import Course
from rnndiag.rules.assess import Assessment
from rnndiag.rules.base import SEVERITIES, Finding, NotAssessed, Thresholds, TrendRule
from rnndiag.rules.drift import DriftRule
from rnndiag.rules.policy import Policy
from rnndiag.rules.registry import TREND_RULES
from rnndiag.trend.data import Alarm

MOST_LOOKS = 100
"""Checkpoints at which the alarms along a run are looked for; of more, evenly chosen ones."""


def assess_run(courses: Sequence[Course], policy: Policy) -> Assessment:
    """Apply every rule of trends that the policy wants to the run as a whole.

    Each test may raise a false alarm with its rule's ``p_value`` divided by the number of all tests (Bonferroni). A
    rule without a ``p_value`` states a fact, not the result of a test, and is not counted.
    """
    findings: list[Finding] = []
    not_assessed: list[NotAssessed] = []
    switched_off = [
        NotAssessed(rule.code, course.name, "switched off")
        for rule, course in _pairs(courses)
        if not policy.wants(rule, course.name)
    ]
    for rule, course, at in _tests(courses, policy):
        reason = rule.lacks(course, at)
        if reason is not None:
            not_assessed.append(NotAssessed(rule.code, course.name, reason))
            continue
        severity = policy.severity(rule, course.name)
        findings += (replace(finding, severity=severity) for finding in rule.assess_course(course, at))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Assessment(tuple(findings), tuple(not_assessed), tuple(switched_off))


def assess_along(courses: Sequence[Course], policy: Policy) -> tuple[Alarm, ...]:
    """When each rule that follows a drift would have fired, had the run been looked at after each checkpoint."""
    alarms = []
    for rule, course, at in _tests(courses, policy):
        if not isinstance(rule, DriftRule):
            continue
        followed = {key: each for key, each in course.series.items() if key == rule.quantity}
        course = replace(course, series=followed)
        begun: float | None = None
        last = 0.0
        for step in _looks(course.steps):
            known = course.until(step)
            fires = rule.lacks(known, at) is None and any(rule.assess_course(known, at))
            if fires:
                begun, last = step if begun is None else begun, step
            elif begun is not None:
                alarms.append(Alarm(rule.code, course.name, begun, last, rule.warns_of))
                begun = None
        if begun is not None:
            alarms.append(Alarm(rule.code, course.name, begun, last, rule.warns_of))
    return tuple(sorted(alarms, key=lambda alarm: (alarm.first_step, alarm.rule, alarm.where)))


def _pairs(courses: Sequence[Course]) -> Iterator[tuple[TrendRule, Course]]:
    return ((rule, course) for rule in TREND_RULES for course in courses if course.kind in rule.kinds)


def _tests(courses: Sequence[Course], policy: Policy) -> list[tuple[TrendRule, Course, Thresholds]]:
    wanted = [(rule, course) for rule, course in _pairs(courses) if policy.wants(rule, course.name)]
    tests = sum("p_value" in rule.thresholds for rule, _ in wanted)
    found = []
    for rule, course in wanted:
        at = policy.thresholds(rule, course.name)
        if "p_value" in rule.thresholds:
            at = {**at, "level": at["p_value"] / tests}
        found.append((rule, course, at))
    return found


def _looks(steps: Sequence[float]) -> list[float]:
    distinct = list(dict.fromkeys(steps))
    count = min(len(distinct), MOST_LOOKS)
    return [distinct[(i + 1) * len(distinct) // count - 1] for i in range(count)]
