"""Each rule on each stack or layer, once; text that any document can hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from rnndiag.printable import escaped
from rnndiag.renderers.cases import cases
from rnndiag.rules.base import Finding, NotAssessed, StackRule
from rnndiag.rules.registry import FILE_RULES, RULES
from tests.builders.reports import HOSTILE, broken, healthy, vanishing


@pytest.mark.parametrize("make", [vanishing, healthy, broken])
def test_every_rule_meets_every_stack_or_layer_once(make) -> None:  # type: ignore[no-untyped-def]
    report = make()
    met = Counter((case.code, case.subject) for case in cases(report))
    assert set(met.values()) == {1}
    assert set(met) == {
        (rule.code, name)
        for stack in report.stacks
        for rule in RULES
        for name in ((stack.name,) if isinstance(rule, StackRule) else stack.layers)
    } | {(rule.code, "") for rule in FILE_RULES}
    assert Counter(f for case in cases(report) for f in map(id, case.findings)) == Counter(map(id, report.findings))
    kept_away = (*report.not_assessed, *report.not_applicable)
    assert sum(case.reason is not None for case in cases(report)) == len(kept_away)


def test_a_rule_that_does_not_apply_is_skipped_with_the_reason() -> None:
    reasons = {(case.code, case.subject): case.reason for case in cases(vanishing())}
    assert reasons["SAT002", "rnn.l0"] == "tanh layers have no forget gate"
    assert reasons["INI001", "rnn.l0"] == "tanh layers have no forget gate"
    assert reasons["SAT004", "rnn.l0"] == "tanh layers have no gates"
    assert reasons["SAT001", "rnn.l0"] is None


def test_what_the_catalogue_does_not_foresee_is_kept() -> None:
    report = replace(
        healthy(),
        findings=(Finding("OWN001", "my-own", "error", "rnn", "no"), Finding("VAN001", "x", "info", "gone", "no")),
        not_assessed=(NotAssessed("OWN002", "elsewhere", "why"), NotAssessed("OWN002", "elsewhere", "why not")),
    )
    *_, own, gone, missing = cases(report)
    assert (own.code, own.name, own.subject, len(own.findings)) == ("OWN001", "my-own", "rnn", 1)
    assert (gone.code, gone.subject) == ("VAN001", "gone")
    assert (missing.code, missing.findings, missing.reason) == ("OWN002", (), "why; why not")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_visible_text_can_be_printed(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert escaped(shown) == shown


def test_visible_text_is_left_alone_where_it_can_be() -> None:
    assert escaped("Größe 重み 🎉 \\ | %") == "Größe 重み 🎉 \\ | %"
    assert escaped("a\nb\x1b\ud800\u202e") == "a\\nb\\x1b\\ud800\\u202e"
    assert escaped("a\nb\r", keep="\n") == "a\nb\\r"
