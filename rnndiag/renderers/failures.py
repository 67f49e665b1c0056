"""The short text of a gate whose report goes to a file: the failing findings, and the number of all findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rnndiag.renderers.styles import SEVERITY_STYLES
from rnndiag.rules.base import Finding
from rnndiag.rules.words import counted

Failure = tuple[str, Sequence[Finding]]
"""The name of a model or run, and its findings that count."""


def render(failures: Sequence[Failure], *, more: int = 0, last: str) -> RenderableType:
    """Each failure with its findings, the number of failures that are not shown, and a last line."""
    lines = [line for where, findings in failures for line in _failure(where, findings)]
    left_out = [Text(f"{counted(more, 'more model')} with such findings")] if more else []
    return Group(*lines, *left_out, Text(last, style="bold"))


def _failure(where: str, findings: Sequence[Finding]) -> Iterator[RenderableType]:
    yield Text(where, style="bold", no_wrap=True, overflow="ignore")
    for each in findings:
        line = Text.assemble(
            (each.severity, SEVERITY_STYLES[each.severity]),
            f" {each.rule} ",
            (each.name, "bold"),
            f"{each.where}: {each.message}",
        )
        yield Padding(line, (0, 0, 0, 2))
