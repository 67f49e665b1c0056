"""The text formats of each kind of result: a new format is a file with a function ``render``, and an entry here.

The files are imported only when they are used. The format ``table``, which every result has, is not in here: its
``render`` returns what rich prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from rnndiag.comparison.compare import Comparison
    from rnndiag.prescription import Prescription
    from rnndiag.report import Report
    from rnndiag.sweep.result import Sweep
    from rnndiag.trend.data import Trend

Result = TypeVar("Result")

Syntax = Literal["text", "json", "xml", "commands"]
"""How unprintable characters are escaped: in ``text``, where it is printed; in the other formats, by ``render``."""


@dataclass(frozen=True, slots=True)
class TextFormat(Generic[Result]):
    """A format for one kind of result."""

    module: str
    """the file here whose function ``render`` takes the result and returns the text"""
    syntax: Syntax
    begins: tuple[str, ...]
    """patterns of the first bytes, by which an existing file is recognized as a report of rnndiag"""

    def render(self, result: Result) -> str:
        """The result in this format."""
        text: str = import_module(f"rnndiag.renderers.{self.module}").render(result)
        return text


_STRING = r'"(?:[^"\\\n]|\\.)*"'

_VERSIONED_JSON = (r'\[?\s*\{\s*(?:"before"\s*:\s*\{\s*)?"schema_version"\s*:\s*"[^"\n]*"\s*,\s*"rnndiag_version"\s*:',)
"""The JSON of every command except ``compare``, and of baselines; indented or not."""

REPORTS: Mapping[str, TextFormat[Sequence[Report]]] = {
    "json": TextFormat("json", "json", _VERSIONED_JSON),
    "jsonl": TextFormat(
        "jsonl",
        "json",
        (
            rf'\{{"path": {_STRING}, (?:"conditions": "[0-9a-f]+", )?"schema_version": "[^"\n]*", "rnndiag_version":',
            rf'\{{"path": {_STRING}, (?:"conditions": "[0-9a-f]+", )?"error": {_STRING}\}}\n',
        ),
    ),
    "github": TextFormat(
        "github",
        "commands",
        (r"::(?:error|warning|notice) file=[^,\n]*,title=(?:rnndiag%3A |[A-Z]{3}\d{3} )",),
    ),
    "markdown": TextFormat("markdown", "text", (r"## .+: \w+\n\n\*\*Summary:\*\* ",)),
    "junit": TextFormat("junit", "xml", (r'<\?xml [^>\n]*\?>\s*<testsuites name="rnndiag"[ />]',)),
    "sarif": TextFormat(
        "sarif",
        "json",
        (
            r'\{\s*"\$schema"\s*:\s*"[^"\n]*sarif[^"\n]*"\s*,\s*"version"\s*:\s*"[^"\n]*"\s*,\s*"runs"\s*:\s*\[\s*\{\s*'
            r'"tool"\s*:\s*\{\s*"driver"\s*:\s*\{\s*"name"\s*:\s*"rnndiag"',
        ),
    ),
}

SEVERAL_REPORTS: Mapping[str, TextFormat[Sequence[Report]]] = {
    **REPORTS,
    "json": TextFormat("json_array", "json", _VERSIONED_JSON),
}
"""For a command that was asked for several models, however many of them have a report."""

COMPARISON: Mapping[str, TextFormat[Comparison]] = {
    "json": TextFormat(
        "result_json",
        "json",
        (rf'\{{\s*"base"\s*:\s*{_STRING}\s*,\s*"new"\s*:\s*{_STRING}\s*,\s*"verdicts"\s*:\s*\[',),
    ),
}

PRESCRIPTION: Mapping[str, TextFormat[Prescription]] = {
    "json": TextFormat("result_json", "json", _VERSIONED_JSON),
}

SWEEP: Mapping[str, TextFormat[Sweep]] = {
    "json": TextFormat("sweep_json", "json", _VERSIONED_JSON),
    "csv": TextFormat("sweep_csv", "text", (r"(?:\w+,)+rate,rate_low,rate_high,theory_rate,log10_gain,",)),
}

TREND: Mapping[str, TextFormat[Trend]] = {
    "json": TextFormat("result_json", "json", _VERSIONED_JSON),
    "csv": TextFormat("trend_csv", "text", (r"path,step,where,kind,verdict(?:,\w+)*\n",)),
    "markdown": TextFormat("trend_markdown", "text", (r"## \d+ checkpoints: \w+ at first, \w+ at last\n\nFrom ",)),
}
