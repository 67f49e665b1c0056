"""The gain over training as a curve for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable

import plotext
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from rnndiag.renderers.charts import chart_width
from rnndiag.renderers.curve import FLOOR, HEIGHT, LINES, MARGIN
from rnndiag.renderers.numbers import short
from rnndiag.renderers.styles import VERDICT_STYLES
from rnndiag.rules.drift import step as step_text
from rnndiag.trend.data import Trend

Curve = list[tuple[float, float]]
"""Steps and gains of consecutive checkpoints."""


class RunCurve:
    """log10 gain at the lag against the step for each stack, between the thresholds, to 100 columns.

    A curve stops where numbers are not finite, and a vertical line marks the first checkpoint without a number.
    """

    def __init__(self, trend: Trend) -> None:
        self.trend = trend
        names = dict.fromkeys(stack.name for point in trend.points for stack in point.stacks)
        parts = {name: _parts(trend, name) for name in names}
        self.curves = {name: found for name, found in parts.items() if sum(map(len, found)) > 1}
        self.stops = {name: step for name in self.curves if (step := _stop(trend, name)) is not None}

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
        for name, step in self.stops.items():
            stop = f"{name}: the values are not finite at {self.trend.order.axis} {step_text(step)} (vertical line)"
            yield Text(stop, style=VERDICT_STYLES["invalid"])

    def _draw(self, width: int) -> str:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.limit_size(False, False)  # the console sets the size; plotext would ask the terminal
        plotext.plot_size(width, HEIGHT)
        drawn = [gain for parts in self.curves.values() for part in parts for _, gain in part]
        steps = [point.step for point in self.trend.points]
        first, last = min(steps), max(steps)
        for stop in self.stops.values():
            plotext.vline(stop, color="red+")
        for parts, (marker, colour) in zip(self.curves.values(), LINES, strict=False):
            style = {"color": colour} if len(self.curves) > 1 else {}
            for part in parts:
                plotext.plot([step for step, _ in part], [gain for _, gain in part], marker=marker, **style)
        band = (self.trend.thresholds.vanishing, self.trend.thresholds.exploding)
        # The threshold that is nearer to being crossed is always in view.
        nearest = min(band, key=lambda threshold: min(abs(gain - threshold) for gain in drawn))
        lowest, highest = min(*drawn, nearest), max(*drawn, nearest)
        plotext.ylim(lowest - MARGIN, highest + MARGIN)
        if last > first:
            plotext.xlim(first, last)
        for threshold in band:
            if lowest <= threshold <= highest:
                plotext.hline(threshold)
        ticks: Iterable[float] = [first + (last - first) * i / 4 for i in range(5)]
        if all(float(each).is_integer() for each in steps):
            ticks = [float(round(tick)) for tick in ticks]
        ticks = sorted(set(ticks))
        plotext.xticks(ticks, [short(tick, 4) if tick % 1 else f"{tick:.0f}" for tick in ticks])
        plotext.xlabel(self.trend.order.axis)
        plotext.ylabel("log10 gain")
        text: str = plotext.build()
        return text


def _parts(trend: Trend, name: str) -> list[Curve]:
    """The stack's gains, cut where a checkpoint has no gain."""
    parts: list[Curve] = [[]]
    for point in trend.points:
        for stack in point.stacks:
            if stack.name != name:
                continue
            gain = stack.measures["log10_gain"]
            if gain is not None and not math.isnan(gain):
                parts[-1].append((point.step, min(-FLOOR, max(FLOOR, gain))))
            elif parts[-1]:
                parts.append([])
    return [part for part in parts if part]


def _stop(trend: Trend, name: str) -> float | None:
    """The first step at which the stack is not finite."""
    broken = (p.step for p in trend.points for s in p.stacks if s.name == name and s.verdict == "invalid")
    return next(broken, None)
