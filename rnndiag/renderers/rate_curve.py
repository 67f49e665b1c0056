"""The rate along one axis as a curve for the terminal, compared with theory."""

from __future__ import annotations

import math

import plotext
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from rnndiag.renderers.charts import chart_width
from rnndiag.renderers.numbers import short
from rnndiag.sweep.axes import KINDS
from rnndiag.sweep.result import Sweep

HEIGHT = 13


class RateCurve:
    """Measured and predicted rate, drawn as wide as the console that asks, to 100 columns."""

    def __init__(self, sweep: Sweep, axis: str) -> None:
        self.sweep, self.axis = sweep, axis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Build the plot at the width at hand."""
        yield Text.from_ansi(self._draw(chart_width(console, options)))

    def _draw(self, width: int) -> str:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.limit_size(False, False)  # the console sets the size; plotext would ask the terminal
        plotext.plot_size(width, HEIGHT)
        for label, marker, name in (("theory", "dot", "theory_rate"), ("measured", "braille", "rate")):
            pairs = [
                (float(point[self.axis]), rate)
                for point in self.sweep.points
                if (rate := getattr(point, name)) is not None and math.isfinite(rate)
            ]
            if pairs:
                x, y = zip(*sorted(pairs), strict=True)
                plotext.plot(list(x), list(y), marker=marker, label=label)
        plotext.hline(0)
        ends = sorted(float(point[self.axis]) for point in self.sweep.points)
        ticks = [ends[0] + (ends[-1] - ends[0]) * i / 4 for i in range(5)]
        plotext.xticks(ticks, [short(tick) for tick in ticks])
        plotext.xlabel(KINDS[self.axis].heading)
        drawn: str = plotext.build()
        return drawn
