"""Suggestions that were tried: the numbers before and after, and none that did not help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rnndiag.rules.base import Finding, Suggestion
from rnndiag.treatments.trial import Trial, Trials, rank


def tried(findings: Sequence[Finding], trials: Trials) -> tuple[Finding, ...]:
    """Put what was tried in the place of what was only supposed to help.

    A suggestion that names a treatment is applied to a copy of the stack and measured; it stays, with its numbers, if
    it helps. Suggestions are ordered by their effect: changes of layers, then of training, then those that name no
    treatment.

    Args:
        findings: of rules.
        trials: of a stack that is ill; findings on other stacks and their layers stay as they are.
    """
    stack = trials.patient.stack
    of_stack = {stack.name, *(layer.name for layer in stack.layers)}
    return tuple(
        replace(finding, suggestions=_tried(finding.suggestions, trials)) if finding.layer in of_stack else finding
        for finding in findings
    )


def _tried(suggestions: Sequence[Suggestion], trials: Trials) -> tuple[Suggestion, ...]:
    ranked: list[tuple[tuple[float, ...], Suggestion]] = []
    others: list[Suggestion] = []
    for suggestion in suggestions:
        if suggestion.treatment is None:
            others.append(suggestion)
            continue
        outcome = trials.of(suggestion.treatment)
        if isinstance(outcome, str):  # where one of a pair heals alone, that one
            outcome = trials.of(suggestion.treatment.partition("+")[0])
        if not isinstance(outcome, str) and outcome.trial.helps:
            effect = (outcome.trial.kind == "training", *rank(outcome.trial, trials.patient.thresholds)[:4])
            ranked.append((effect, _with(suggestion, outcome.trial, trials)))
    ranked.sort(key=lambda pair: pair[0])  # stable: the rule's own order within
    return (*(suggestion for _, suggestion in ranked), *others)


def _with(suggestion: Suggestion, trial: Trial, trials: Trials) -> Suggestion:
    before = trials.patient.gain.gradient
    if trial.kind == "training":
        return replace(suggestion, action=f"{trial.action} ({trial.note})" if trial.note else trial.action)
    was = None if before is None else before.log10_gain
    came = f"log10 gain {_signed(was)} -> {_signed(trial.log10_gain)}, {trial.verdict}"
    note = f"; {trial.note}" if trial.note else ""
    return replace(suggestion, action=f"{trial.action}: {came}{note}", before=was, after=trial.log10_gain)


def _signed(gain: float | None) -> str:
    return "not finite" if gain is None or not math.isfinite(gain) else f"{gain:z.{2 if abs(gain) < 10 else 1}f}"
