"""The short text of a gate whose report goes to a file: the failing findings, and the number of all findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rnndiag.renderers.lines import PLURAL
from rnndiag.renderers.styles import SEVERITY_STYLES
from rnndiag.rules.base import Finding

Failure = tuple[str, Sequence[Finding]]
"""The name of a model or run, and its findings that count."""


def render(failures: Sequence[Failure], *, more: int = 0, last: str) -> RenderableType:
    """Each failure with its findings, the number of failures that are not shown, and a last line."""
    lines = [line for where, findings in failures for line in _failure(where, findings)]
    left_out = (
        [Text(f"{more} more models with such findings" if more > 1 else "1 more model with such findings")]
        if more
        else []
    )
    return Group(*lines, *left_out, Text(last, style="bold"))


def counted(findings: Counter[str], none: str = "nothing found") -> str:
    """``1 error, 2 warnings``, from the number of findings of each severity."""
    counts = [(findings[name], name) for name in PLURAL if findings[name]]
    return ", ".join(f"{n} {name if n == 1 else PLURAL[name]}" for n, name in counts) or none


def _failure(where: str, findings: Sequence[Finding]) -> Iterator[RenderableType]:
    yield Text(where, style="bold", no_wrap=True, overflow="ignore")
    for each in findings:
        line = Text.assemble(
            (each.severity, SEVERITY_STYLES[each.severity]),
            f" {each.rule} ",
            (each.name, "bold"),
            f" in {each.layer}: {each.message}",
        )
        yield Padding(line, (0, 0, 0, 2))
