"""The contract's JSON document for several models."""

from __future__ import annotations

from collections.abc import Sequence

from rnndiag.printable import json_text
from rnndiag.report import Report, to_builtins


def render(reports: Sequence[Report]) -> str:
    """An array in the order given, even if only one of the models has a report."""
    return json_text([to_builtins(report) for report in reports]) + "\n"
