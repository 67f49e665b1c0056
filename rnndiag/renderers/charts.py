"""The width of charts."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions

WIDEST_ON_TERMINAL = 100
WIDEST_ELSEWHERE = 80
"""Columns of a chart in a file or a pipe, where the width does not depend on a terminal."""


def chart_width(console: Console, options: ConsoleOptions) -> int:
    """The columns of a chart: as wide as the console, up to a limit."""
    return min(options.max_width, WIDEST_ON_TERMINAL if console.is_terminal else WIDEST_ELSEWHERE)
