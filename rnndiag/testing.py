"""For test suites: fail a test with what rnndiag finds.

from rnndiag.testing import assert_healthy

def test_the_shipped_model_remembers_its_window():
    assert_healthy("model.pt", length=64, settings=Settings(lag=40))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnndiag.api.inspecting import Inputs, Step, inspect
from rnndiag.printable import escaped, without_commands
from rnndiag.rules.base import SEVERITIES, Severity

if TYPE_CHECKING:
    from torch import nn

    from rnndiag.report import Report


def assert_healthy(
    model: str | Path | nn.Module | Step,
    state0: Any = None,
    inputs: Inputs | None = None,
    *,
    fail_on: Severity = "error",
    **options: Any,
) -> Report:
    """Diagnose a model and raise ``AssertionError`` if a finding is at or above a severity.

    Args:
        model: a saved model's path, a module, or a step function with ``state0`` and ``inputs``.
        state0: as for ``rnndiag.inspect``.
        inputs: likewise.
        fail_on: the least severity that fails.
        options: the others of ``rnndiag.inspect``.

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: naming the verdict and each such finding.
        RnndiagError: for a model or option that cannot serve.
    """
    report = inspect(model, state0, inputs, **options)
    counting = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    found = [f for f in report.findings if f.severity in counting]
    if found:
        lines = [f"{report.source.path} is {report.verdict}: {report.summary}"]
        lines += [f"  {f.severity} {f.rule} {f.name}{f.where}: {f.message}" for f in found]
        raise AssertionError(without_commands("\n".join(map(escaped, lines))))  # test runners print it
    return report
