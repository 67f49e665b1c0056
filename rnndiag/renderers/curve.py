"""The gain by lag as a curve for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotext
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from rnndiag.measures.gradient import GradientThroughTime
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.verdict import WORST_FIRST
from rnndiag.renderers.charts import chart_width

HEIGHT = 11
LINES = (("braille", "blue+"), ("+", "green+"), ("x", "magenta+"), ("o", "cyan+"), ("*", "yellow+"), ("#", "red+"))
"""Marker and color of each curve. More curves could not be distinguished; without color, the marker must do. The worst
stacks come first."""

MARGIN = 0.8
"""decades above and below the curves"""

FLOOR = -40.0
"""Curves are cut here: further down only the number matters."""


class GainCurve:
    """log10 gain against lag for each stack, drawn as wide as the console that asks, to 100 columns."""

    def __init__(self, stacks: Sequence[StackMeasures], band: tuple[float, float]) -> None:
        drawn = [stack for stack in stacks if stack.gradient is not None]
        self.stacks = sorted(drawn, key=lambda stack: WORST_FIRST.index(stack.verdict))
        self.band = band

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Build the plot at the width at hand, under a line that names the curves where there are several."""
        named = self.stacks[: len(LINES)]
        if len(named) > 1:
            legend = [
                (f"{'⠒⠒' if marker == 'braille' else marker * 2} {stack.name}   ", f"bright_{colour[:-1]}")
                for stack, (marker, colour) in zip(named, LINES, strict=False)
            ]
            yield Text.assemble("     ", *legend)
        yield Text.from_ansi(self._draw(chart_width(console, options)))

    def _draw(self, width: int) -> str:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.limit_size(False, False)  # the console sets the size; plotext would ask the terminal
        plotext.plot_size(width, HEIGHT)
        lowest, highest = 0.0, 0.0
        for stack, (marker, colour) in zip(self.stacks, LINES, strict=False):
            assert stack.gradient is not None  # filtered in __init__
            points = {0: 0.0} | dict(zip(_lags(stack.gradient), stack.gradient.log10_by_lag, strict=True))
            points = {lag: min(-FLOOR, max(FLOOR, gain)) for lag, gain in points.items() if not math.isnan(gain)}
            gains = list(points.values())
            lowest, highest = min(lowest, *gains), max(highest, *gains)
            style = {"color": colour} if len(self.stacks) > 1 else {}
            plotext.plot(list(points), gains, marker=marker, **style)
        # The threshold that is nearer to being crossed is always in view.
        vanishing, exploding = self.band
        lowest, highest = (lowest, max(highest, exploding)) if highest > -lowest else (min(lowest, vanishing), highest)
        plotext.ylim(lowest - MARGIN, highest + MARGIN)
        for threshold in self.band:
            if lowest <= threshold <= highest:
                plotext.hline(threshold)
        length = _lags(self.stacks[0].gradient)[-1] if self.stacks[0].gradient else 0
        ticks = sorted({round(length * i / 4) for i in range(5)})
        plotext.xticks(ticks, [str(tick) for tick in ticks])
        plotext.xlabel("lag (steps back from the last)")
        plotext.ylabel("log10 gain")
        drawn: str = plotext.build()
        return drawn


def _lags(gradient: GradientThroughTime) -> Sequence[int]:
    return gradient.lags or range(1, len(gradient.log10_by_lag) + 1)
