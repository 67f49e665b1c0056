"""JUnit XML: a suite for each model, a test case for each rule on each stack or layer."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from junitparser import Failure, JUnitXml, Skipped, SystemOut, TestCase, TestSuite

from rnndiag.checkpoint.model import Skipped as NotMeasured
from rnndiag.printable import escaped_strings
from rnndiag.renderers.cases import Case, cases, explained, unjudged
from rnndiag.report import Report

# CI systems would obey these in a log. A character reference is the same text for a program that parses the document.
_COMMAND = re.compile(r"^([ \t]*):(?=:)|#(?=#)", re.MULTILINE)


def render(reports: Sequence[Report]) -> str:
    """The document, with its counts.

    Errors and warnings fail. Infos pass, and their text is the output of the test. A rule that could not be assessed,
    does not apply or is switched off is skipped with the reason, and so is a layer or file that was not measured.
    The output of a suite lists the assumptions.
    """
    document = JUnitXml("rnndiag")
    for report in map(escaped_strings, reports):
        # add_testsuite would merge two models that share a path.
        document.append(_suite(report))  # type: ignore[no-untyped-call]
    document.update_statistics()  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    document.write(buffer, pretty=True)
    return _COMMAND.sub(lambda found: f"{found[1] or ''}&#{ord(found[0][-1])};", buffer.getvalue().decode("utf-8"))


def _suite(report: Report) -> TestSuite:
    suite = TestSuite(report.source.path)
    suite.add_property("verdict", report.verdict)
    suite.add_property("summary", report.summary)
    suite.add_testcases([_test(case, report.source.path) for case in cases(report)])
    suite.add_testcases([_unjudged(skipped, report.source.path) for skipped in unjudged(report)])
    if report.notes:
        suite.append(SystemOut("\n".join(report.notes)))  # type: ignore[no-untyped-call]
    return suite


def _unjudged(skipped: NotMeasured, path: str) -> TestCase:
    test = TestCase("not measured", f"{path}: {skipped.name}")
    test.result = Skipped(skipped.reason)
    return test


def _test(case: Case, path: str) -> TestCase:
    test = TestCase(f"{case.code} {case.name}", f"{path}: {case.subject}" if case.subject else path)
    failing = [finding for finding in case.findings if finding.severity != "info"]
    noted = [finding for finding in case.findings if finding.severity == "info"]
    if failing:
        failure = Failure("; ".join(finding.message for finding in failing), failing[0].severity)
        failure.text = "\n".join(line for finding in failing for line in explained(finding))
        test.result = failure
    elif case.reason is not None:
        test.result = Skipped(case.reason)
    if noted:
        output = SystemOut("\n".join(line for finding in noted for line in explained(finding)))
        test.append(output)  # type: ignore[no-untyped-call]
    return test
