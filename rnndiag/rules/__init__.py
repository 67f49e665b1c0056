"""The catalogue of rules: a new one is a class in its family's file and a line here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from rnndiag.rules.assumptions import NonlinearityUndecided
from rnndiag.rules.base import Finding, ModelRule, NotAssessed, Rule, Subject, TrendRule
from rnndiag.rules.credit import CreditIsRecent, HorizonShortOfLag
from rnndiag.rules.diverged import LayerDead, RunDiverged
from rnndiag.rules.exploding import ChaoticDynamics, GradientExplodes, SingleStepSpikes
from rnndiag.rules.initialization import ForgetBiasNearZero, ScaleOffCritical
from rnndiag.rules.numerics import GradientUnderflows, NonfiniteStates, NonfiniteWeights
from rnndiag.rules.policy import Policy
from rnndiag.rules.saturation import DeadUnits, ForgetGateShut, GatesStuck, UnitsSaturated
from rnndiag.rules.spectrum import IllConditioned, OutsideTheBulk, StronglyNonnormal
from rnndiag.rules.states import StatesGrow, StoredDtypeOverflows
from rnndiag.rules.trend import (
    DriftsTowardChaos,
    DriftsTowardSaturation,
    DriftsTowardVanishing,
    MemoryShrinks,
    VerdictChanged,
)
from rnndiag.rules.vanishing import ContractionGuaranteed, GradientVanishes, LayerForgets

RULES: tuple[ModelRule, ...] = (
    GradientVanishes(),
    LayerForgets(),
    ContractionGuaranteed(),
    HorizonShortOfLag(),
    CreditIsRecent(),
    GradientExplodes(),
    ChaoticDynamics(),
    SingleStepSpikes(),
    UnitsSaturated(),
    ForgetGateShut(),
    DeadUnits(),
    GatesStuck(),
    ForgetBiasNearZero(),
    ScaleOffCritical(),
    IllConditioned(),
    OutsideTheBulk(),
    StronglyNonnormal(),
    NonfiniteWeights(),
    NonfiniteStates(),
    GradientUnderflows(),
    NonlinearityUndecided(),
    StoredDtypeOverflows(),
    StatesGrow(),
)

TREND_RULES: tuple[TrendRule, ...] = (
    DriftsTowardChaos(),
    DriftsTowardVanishing(),
    DriftsTowardSaturation(),
    VerdictChanged(),
    MemoryShrinks(),
    RunDiverged(),
    LayerDead(),
)
"""What ``rnndiag trend`` looks for along a run."""

CATALOGUE: tuple[Rule, ...] = (*RULES, *TREND_RULES)
"""All that ``rnndiag rules`` lists, and that a policy may choose from."""

SEVERITIES = ("error", "warning", "info")


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


def assess(subjects: Iterable[Subject], policy: Policy) -> Assessment:
    """Apply every rule that the policy wants to everything that it looks at."""
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
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable: catalogue order within
    return Assessment(tuple(findings), tuple(not_assessed), tuple(switched_off), tuple(not_applicable))
