"""The catalogue of rules: a new one is a class in its family's file and a line here."""

from __future__ import annotations

from collections.abc import Iterable

from rnndiag.rules.base import Finding, NotAssessed, Rule, Subject
from rnndiag.rules.exploding import ChaoticDynamics, GradientExplodes
from rnndiag.rules.initialisation import ForgetBiasNearZero
from rnndiag.rules.numerics import GradientUnderflows, NonfiniteStates, NonfiniteWeights
from rnndiag.rules.saturation import DeadUnits, ForgetGateShut, UnitsSaturated
from rnndiag.rules.spectrum import IllConditioned
from rnndiag.rules.vanishing import ContractionGuaranteed, GradientVanishes, LayerForgets

RULES: tuple[Rule, ...] = (
    GradientVanishes(),
    LayerForgets(),
    ContractionGuaranteed(),
    GradientExplodes(),
    ChaoticDynamics(),
    UnitsSaturated(),
    ForgetGateShut(),
    DeadUnits(),
    ForgetBiasNearZero(),
    IllConditioned(),
    NonfiniteWeights(),
    NonfiniteStates(),
    GradientUnderflows(),
)

SEVERITIES = ("error", "warning", "info")


def assess(subjects: Iterable[Subject]) -> tuple[tuple[Finding, ...], tuple[NotAssessed, ...]]:
    """Every finding, the most severe first, and every rule that could not be assessed."""
    findings: list[Finding] = []
    not_assessed: list[NotAssessed] = []
    for subject in subjects:
        for rule in RULES:
            findings += rule.assess(subject)
            not_assessed += rule.unmet(subject)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable: catalogue order within
    return tuple(findings), tuple(not_assessed)
