"""JSON of a comparison, a prescription or a run of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rnndiag.printable import json_text
from rnndiag.report import finite

if TYPE_CHECKING:
    from rnndiag.comparison.compare import Comparison
    from rnndiag.prescription import Prescription
    from rnndiag.trend.data import Trend


def render(result: Comparison | Prescription | Trend) -> str:
    """All fields of the result; numbers that are not finite are strings, as in a report."""
    return json_text(finite(msgspec.to_builtins(result))) + "\n"
