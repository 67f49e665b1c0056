"""For test suites: fail a test with what rnndiag finds.

from rnndiag.testing import assert_healthy

def test_the_shipped_model_remembers_its_window():
    assert_healthy("model.pt", length=64, settings=Settings(lag=40))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnndiag.api import inspect
from rnndiag.rules import SEVERITIES
from rnndiag.rules.base import Severity

if TYPE_CHECKING:
    from rnndiag.report import Report


def assert_healthy(path: str | Path, *, fail_on: Severity = "error", **options: Any) -> Report:
    """Diagnose a saved model and raise ``AssertionError`` if a finding is at or above a severity.

    Args:
        path: a file written by ``torch.save``.
        fail_on: the least severity that fails.
        options: those of ``rnndiag.inspect``.

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: naming the verdict and each such finding.
        RnndiagError: for a file or option that cannot serve.
    """
    report = inspect(path, **options)
    counting = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    found = [f for f in report.findings if f.severity in counting]
    if found:
        listed = "\n".join(f"  {f.severity} {f.rule} {f.name} in {f.layer}: {f.message}" for f in found)
        raise AssertionError(f"{path} is {report.verdict}: {report.summary}\n{listed}")
    return report
