"""The gain over training as a curve for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import plotext
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from rnndiag.renderers.charts import chart_width
from rnndiag.renderers.curve import FLOOR, HEIGHT, LINES, MARGIN
from rnndiag.renderers.numbers import short
from rnndiag.trend.data import Trend


class RunCurve:
    """log10 gain at the lag against the step for each stack, between the thresholds, to 100 columns."""

    def __init__(self, trend: Trend) -> None:
        self.trend = trend
        names = dict.fromkeys(stack.name for point in trend.points for stack in point.stacks)
        self.curves = {name: points for name in names if len(points := list(_gains(trend, name))) > 1}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Build the plot at the width at hand, under a line that names the curves where there are several."""
        if len(self.curves) > 1:
            legend = [
                (f"{'⠒⠒' if marker == 'braille' else marker * 2} {name}   ", f"bright_{colour[:-1]}")
                for name, (marker, colour) in zip(self.curves, LINES, strict=False)
            ]
            yield Text.assemble("     ", *legend)
        if self.curves:
            yield Text.from_ansi(self._draw(chart_width(console, options)))

    def _draw(self, width: int) -> str:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.limit_size(False, False)  # the console that asks knows its size; plotext would ask the terminal
        plotext.plot_size(width, HEIGHT)
        drawn = [gain for points in self.curves.values() for _, gain in points]
        for points, (marker, colour) in zip(self.curves.values(), LINES, strict=False):
            style = {"color": colour} if len(self.curves) > 1 else {}
            plotext.plot([step for step, _ in points], [gain for _, gain in points], marker=marker, **style)
        band = (self.trend.thresholds.vanishing, self.trend.thresholds.exploding)
        # The threshold that is nearer to being crossed is always in view.
        nearest = min(band, key=lambda threshold: min(abs(gain - threshold) for gain in drawn))
        lowest, highest = min(*drawn, nearest), max(*drawn, nearest)
        plotext.ylim(lowest - MARGIN, highest + MARGIN)
        for threshold in band:
            if lowest <= threshold <= highest:
                plotext.hline(threshold)
        steps = [point.step for point in self.trend.points]
        first, last = steps[0], steps[-1]
        ticks = [first + (last - first) * i / 4 for i in range(5)]
        if all(float(each).is_integer() for each in steps):
            ticks = [float(round(tick)) for tick in ticks]
        ticks = sorted(set(ticks))
        plotext.xticks(ticks, [short(tick, 4) if tick % 1 else f"{tick:.0f}" for tick in ticks])
        plotext.xlabel(self.trend.order.axis)
        plotext.ylabel("log10 gain")
        text: str = plotext.build()
        return text


def _gains(trend: Trend, name: str) -> Iterator[tuple[float, float]]:
    for point in trend.points:
        for stack in point.stacks:
            gain = stack.measures["log10_gain"] if stack.name == name else None
            if gain is not None and not math.isnan(gain):
                yield point.step, min(-FLOOR, max(FLOOR, gain))
