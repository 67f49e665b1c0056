"""Renderers: a result in, text or something that rich prints out. None of them prints, or asks a terminal.

There is a registry for each kind of result. It maps a text format to the function ``render`` of a file here: a new
format is a file and a line. The files are imported only when they are used. The format ``table``, which every result
has, is a file as well; its ``render`` returns what rich prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnndiag.comparison.compare import Comparison
    from rnndiag.prescription import Prescription
    from rnndiag.report import Report
    from rnndiag.sweep.result import Sweep
    from rnndiag.trend.data import Trend


def _render_of(module: str) -> Callable[[Any], str]:
    """The function ``render`` of a file here, which is imported by the first call."""

    def render(result: Any) -> str:
        text: str = import_module(f"rnndiag.renderers.{module}").render(result)
        return text

    return render


REPORTS: dict[str, Callable[[Sequence[Report]], str]] = {
    "json": _render_of("json"),
    "jsonl": _render_of("jsonl"),
    "github": _render_of("github"),
    "markdown": _render_of("markdown"),
    "junit": _render_of("junit"),
    "sarif": _render_of("sarif"),
}

SEVERAL_REPORTS: Mapping[str, Callable[[Sequence[Report]], str]] = REPORTS | {"json": _render_of("json_array")}
"""For a command that was asked for several models, however many of them have a report."""

COMPARISON: Mapping[str, Callable[[Comparison], str]] = {"json": _render_of("result_json")}

PRESCRIPTION: Mapping[str, Callable[[Prescription], str]] = {"json": _render_of("result_json")}

SWEEP: Mapping[str, Callable[[Sweep], str]] = {
    "json": _render_of("sweep_json"),
    "csv": _render_of("sweep_csv"),
}

TREND: Mapping[str, Callable[[Trend], str]] = {
    "json": _render_of("result_json"),
    "csv": _render_of("trend_csv"),
    "markdown": _render_of("trend_markdown"),
}
