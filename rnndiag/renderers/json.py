"""The contract's JSON document."""

from __future__ import annotations

from collections.abc import Sequence

from rnndiag.printable import json_text
from rnndiag.report import Report, to_builtins


def render(reports: Sequence[Report]) -> str:
    """One report as an object; several as an array in the order given."""
    built = [to_builtins(report) for report in reports]
    return json_text(built[0] if len(built) == 1 else built) + "\n"
