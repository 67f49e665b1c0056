"""Suggestions that were tried: the numbers before and after, and none that did not help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rnndiag.rules.base import Finding, Suggestion
from rnndiag.treatments.evidence import OwnEvidence, own_evidence
from rnndiag.treatments.judging import rank
from rnndiag.treatments.trial import NotTried, Trial, Trials


def apply_trials(findings: Sequence[Finding], trials: Trials) -> tuple[Finding, ...]:
    """Replace suggestions by treatments that were tried.

    A suggestion that names a treatment is applied to a copy of the stack and measured. It stays, with its numbers, if
    it helps the stack and also improves the finding's own evidence, such as the share of saturated slopes: the number
    that ``Rule.grows_worse`` names. Changes of training change no layer and are judged by their own trial. Suggestions
    are ordered by their effect: changes of layers, then of training, then those that name no treatment.

    Args:
        findings: the findings of the rules.
        trials: the trials on an unhealthy stack; findings on other stacks and their layers do not change.
    """
    stack = trials.patient.stack
    of_stack = {stack.name, *(layer.name for layer in stack.layers)}
    return tuple(
        replace(finding, suggestions=_tested(finding, trials)) if finding.layer in of_stack else finding
        for finding in findings
    )


def _tested(finding: Finding, trials: Trials) -> tuple[Suggestion, ...]:
    ranked: list[tuple[tuple[float, ...], Suggestion]] = []
    others: list[Suggestion] = []
    for suggestion in finding.suggestions:
        if suggestion.treatment is None:
            others.append(suggestion)
            continue
        name = suggestion.treatment
        outcome = trials.of(name)
        if isinstance(outcome, NotTried):  # a pair is not tried if its first treatment is enough
            name = name.partition("+")[0]
            outcome = trials.of(name)
        if isinstance(outcome, NotTried) or not outcome.trial.helps:
            continue
        own = None if outcome.stack is None else own_evidence(finding, trials.patient_after(name))
        if own is None or own.improves:
            effect = (outcome.trial.kind == "training", *rank(outcome.trial, trials.patient.thresholds)[:5])
            ranked.append((effect, _with(suggestion, outcome.trial, own, trials)))
    ranked.sort(key=lambda pair: pair[0])  # stable: the rule's own order within
    return (*(suggestion for _, suggestion in ranked), *others)


def _with(suggestion: Suggestion, trial: Trial, own: OwnEvidence | None, trials: Trials) -> Suggestion:
    before = trials.patient.gain.gradient
    if trial.kind == "training":
        remarks = "; ".join(filter(None, (trial.note, trial.cost)))
        return replace(suggestion, action=f"{trial.action} ({remarks})" if remarks else trial.action, cost=trial.cost)
    was = None if before is None else before.log10_gain
    came = [f"log10 gain {_signed(was)} -> {_signed(trial.log10_gain)}, {trial.verdict}"]
    if own is not None:
        came.append(f"{own.name.replace('_', ' ')} {own.before:.3g} -> {own.after:.3g}")
    said = "; ".join(filter(None, (*came, trial.note, trial.cost)))
    return replace(
        suggestion,
        action=f"{trial.action}: {said}",
        before=was,
        after=trial.log10_gain,
        cost=trial.cost,
        evidence_before=None if own is None else own.before,
        evidence_after=None if own is None else own.after,
    )


def _signed(gain: float | None) -> str:
    return "not finite" if gain is None or not math.isfinite(gain) else f"{gain:z.{2 if abs(gain) < 10 else 1}f}"
