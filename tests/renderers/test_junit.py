"""JUnit XML, read back by the library that wrote it and by the standard one."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml, TestCase

from rnndiag.printable import escaped
from rnndiag.renderers import junit
from rnndiag.renderers.cases import cases
from tests.builders.reports import HOSTILE, broken, golden, healthy, hostile, vanishing, without_memory


def read(text: str) -> list[TestCase]:
    return [case for suite in JUnitXml.fromstring(text.encode()) for case in suite]


def test_a_suite_for_each_model_and_a_case_for_each_rule_and_layer() -> None:
    reports = [vanishing(), broken(), healthy(), healthy()]
    document = JUnitXml.fromstring(junit.render(reports).encode())
    assert [suite.name for suite in document] == [report.source.path for report in reports]
    for suite, report in zip(document, reports, strict=True):
        path = report.source.path
        expected = [(f"{c.code} {c.name}", f"{path}: {c.subject}" if c.subject else path) for c in cases(report)]
        assert [(case.name, case.classname) for case in suite] == expected
        assert {p.name: p.value for p in suite.properties()} == {"verdict": report.verdict, "summary": report.summary}


@pytest.mark.parametrize("make", [vanishing, broken, healthy, without_memory])
def test_outcomes(make) -> None:  # type: ignore[no-untyped-def]
    report = make()
    tests = read(junit.render([report]))
    for test, case in zip(tests, cases(report), strict=True):
        severities = {finding.severity for finding in case.findings}
        assert test.is_failure == bool(severities & {"error", "warning"})
        assert test.is_skipped == (case.reason is not None and not test.is_failure)
        assert (test.system_out is not None) == ("info" in severities)
        assert test.is_passed == (not test.is_failure and not test.is_skipped)
        if test.is_failure:
            (failure,) = test.result
            assert (failure.type, failure.message) == (case.findings[0].severity, case.findings[0].message)
        if test.is_skipped:
            assert test.result[0].message == case.reason
        told = test.result[0].text if test.is_failure else test.system_out
        for suggestion in [s for finding in case.findings for s in finding.suggestions]:
            assert f"try: {suggestion.action} (because {suggestion.evidence})" in told


def test_counts() -> None:
    reports = [vanishing(), broken()]
    document = JUnitXml.fromstring(junit.render(reports).encode())
    tests = [case for suite in document for case in suite]
    counted = [len(tests), sum(t.is_failure for t in tests), 0, sum(t.is_skipped for t in tests)]
    assert [document.tests, document.failures, document.errors, document.skipped] == counted
    assert counted[1] > 0
    kept_away = [item for report in reports for item in (*report.not_assessed, *report.not_applicable)]
    assert counted[3] == len(kept_away)


def test_no_reports() -> None:
    assert len(JUnitXml.fromstring(junit.render([]).encode())) == 0


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_any_name_gives_a_document(name: str, sound: bool) -> None:
    report = hostile(name, sound)
    text = junit.render([report])
    assert text.endswith(">\n")
    root = ElementTree.fromstring(text.encode())
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped", "system-out",
    }  # fmt: skip
    tests = read(text)
    own = report.stacks[0].name
    assert tests[0].classname == escaped(f"{name}: {own}" if own else name)
    messages = [test.result[0].message or "" for test in tests if test.is_failure]
    assert messages
    assert set(messages) == {escaped(name)}


def test_an_info_passes_with_what_it_says() -> None:
    assert [case.system_out for case in read(junit.render(golden()[:1])) if case.system_out] == ["a, b: c"]
