"""The contract's JSON document."""

from __future__ import annotations

from collections.abc import Sequence

from rnndiag.printable import json_text
from rnndiag.report import Report, to_builtins


def render(reports: Sequence[Report], *, array: bool = False) -> str:
    """One report as an object; several, or with ``array``, as an array in the order given."""
    built = [to_builtins(report) for report in reports]
    document = built[0] if len(built) == 1 and not array else built
    return json_text(document) + "\n"
