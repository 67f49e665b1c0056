"""A phase diagram for a terminal of 80 columns or more: a coloured map whose letters say it without colour too."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import Style
from rich.text import Text

from rnndiag.measures.verdict import Verdict
from rnndiag.renderers.numbers import short
from rnndiag.renderers.tables import titled_table
from rnndiag.sweep.axes import KINDS, Value, varying
from rnndiag.sweep.result import CriticalSigma, Sweep, SweepPoint

LETTERS: dict[Verdict, str] = {
    "vanishing": "V",
    "healthy": "·",
    "exploding": "X",
    "inconclusive": "?",
    "mixed": "M",
    "invalid": "!",
}

WIDEST = 120
WIDEST_CELL = 9
NUMBER_FITS = 9
"""Columns of a cell from which on the rate stands in it, and the line beside it."""

ENDS = ((33, 102, 172), (247, 247, 247), (178, 24, 43))
"""Blue to red through white, which people who see neither red nor green can tell apart."""

BAR = 24


class HeatMap:
    """Two axes as a map: verdicts as letters, the rate as colour, the line where theory's rate is zero.

    Sigma runs to the right where it fits, with each row's critical gain beside the row.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.points = {point.condition: point for point in sweep.points}
        rates = [abs(point.rate) for point in sweep.points if point.rate is not None and math.isfinite(point.rate)]
        self.scale = max(rates, default=0.0) or 1.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the map out for the width at hand."""
        width = min(options.max_width, WIDEST)
        layout = _Layout(self.sweep, width)
        rows = list(self._rows(layout))
        yield from rows
        yield Text()
        in_colour = console.color_system is not None and not console.no_color
        yield from self._legend(layout, in_colour=in_colour, line=any({"│", "▁"} & set(row.plain) for row in rows))
        if self.sweep.critical and not layout.beside:
            yield _critical_table(self.sweep)

    def _rows(self, layout: _Layout) -> Iterator[Text]:
        if layout.beside:
            offset = " " * (layout.margin + layout.cell * len(layout.across) + 2)
            yield Text(f"{offset}critical sigma", style="bold")
        heading = KINDS[layout.down_axis].heading
        aside = "measured        theory" if layout.beside else ""
        top = f"{heading:<{layout.margin + layout.cell * len(layout.across) + 2}}{aside}"
        yield Text(top.rstrip(), style="dim")
        for index, down in enumerate(layout.down):
            line = Text(f"{_label(down):>{layout.margin - 1}} ")
            for column, across in enumerate(layout.across):
                line.append_text(self._cell(layout, column, index, across, down))
            if layout.beside:
                line.append(f"  {critical_words(self._critical(layout, down))}")
            yield line
        yield _ticks(layout)
        yield Text(" " * layout.margin + KINDS[layout.across_axis].heading, style="dim")

    def _cell(self, layout: _Layout, column: int, row: int, across: Value, down: Value) -> Text:
        point = self._at(layout, across, down)
        width = layout.cell
        if point is None:
            return Text(" " * width)
        right = self._crossed(point, self._neighbour(layout, column + 1, row))
        below = self._crossed(point, self._neighbour(layout, column, row + 1))
        letter = LETTERS[point.verdict]
        if width >= NUMBER_FITS and point.rate is not None:
            word = f"{point.rate:+.2f} {letter}" if abs(point.rate) < 10 else f"{short(point.rate)} {letter}"
            content = f" {word:<{width - 1}}"
        else:
            content = letter.center(width)
        if below:
            content = content.replace(" ", "▁")
        if right:
            content = content[:-1] + "│"
        return Text(content, style=self._style(point.rate))

    def _style(self, rate: float | None) -> Style:
        if rate is None or math.isnan(rate):
            return Style(bold=True, reverse=True)
        return _diverging(max(-1.0, min(1.0, rate / self.scale)))

    @staticmethod
    def _crossed(one: SweepPoint, other: SweepPoint | None) -> bool:
        """Whether theory's rate changes sign between two points."""
        if other is None or one.theory_rate is None or other.theory_rate is None:
            return False
        return (one.theory_rate < 0) != (other.theory_rate < 0)

    def _neighbour(self, layout: _Layout, column: int, row: int) -> SweepPoint | None:
        if column >= len(layout.across) or row >= len(layout.down):
            return None
        return self._at(layout, layout.across[column], layout.down[row])

    def _at(self, layout: _Layout, across: Value, down: Value) -> SweepPoint | None:
        given = {layout.across_axis: across, layout.down_axis: down}
        return self.points.get(tuple((name, given.get(name, values[0])) for name, values in self.sweep.axes.items()))

    def _critical(self, layout: _Layout, down: Value) -> CriticalSigma | None:
        return next((c for c in self.sweep.critical if dict(c.at)[layout.down_axis] == down), None)

    def _legend(self, layout: _Layout, *, in_colour: bool, line: bool) -> Iterator[Text]:
        shown = {point.verdict for point in self.sweep.points}
        words = [f"{letter} {verdict}" for verdict, letter in LETTERS.items() if verdict in shown]
        yield Text("   ".join(words))
        if layout.every > 1:
            heading = KINDS[layout.across_axis].heading
            yield Text(f"shown is one {heading} of {layout.every}; json and csv have all")
        if in_colour:
            bar = Text(f"rate  {-self.scale:.2f} ")
            for i in range(BAR):
                bar.append(" ", _diverging((2 * i + 1) / BAR - 1))
            yield bar.append(f" {self.scale:+.2f} nats/step")
        if line:
            yield Text("│ ▁   theory's critical line (mean field, infinite width)")
        if layout.beside:
            yield Text("±     half of the interval over nets")


class _Layout:
    """Which axis runs where, and how wide a cell is."""

    def __init__(self, sweep: Sweep, width: int) -> None:
        one, other = varying(sweep.axes)
        aside = 24 if sweep.critical else 0

        def cell(axis: str, beside: str) -> int:
            """Width of a cell with this axis to the right."""
            taken = _margin(sweep, beside) + (aside if axis == "sigma" else 0)
            values = sweep.axes[axis]
            widest = WIDEST_CELL if KINDS[axis].numeric else max(WIDEST_CELL, max(len(str(v)) for v in values) + 2)
            room = (width - taken) // len(values)
            return min(room, widest)

        def preference(pair: tuple[str, str]) -> tuple[bool, bool, bool, int]:
            axis, beside = pair
            wide = cell(axis, beside)
            labelled = KINDS[axis].numeric or wide > max(len(str(value)) for value in sweep.axes[axis])
            return labelled and wide >= 2, axis == "sigma", KINDS[axis].numeric, len(sweep.axes[axis])

        self.across_axis, self.down_axis = max(((one, other), (other, one)), key=preference)
        self.margin = _margin(sweep, self.down_axis)
        self.cell = max(1, cell(self.across_axis, self.down_axis))
        self.beside = bool(sweep.critical) and self.across_axis == "sigma"
        room = width - self.margin - (aside if self.beside else 0)
        self.every = -(-len(sweep.axes[self.across_axis]) // max(1, room))
        self.across, down = sweep.axes[self.across_axis][:: self.every], sweep.axes[self.down_axis]
        # Like a graph: the greatest value on top.
        self.down = tuple(reversed(down)) if KINDS[self.down_axis].numeric else down


def _margin(sweep: Sweep, axis: str) -> int:
    return max(4, *(len(_label(value)) for value in sweep.axes[axis])) + 1


def _label(value: Value) -> str:
    return short(value) if isinstance(value, float) else str(value)


def _ticks(layout: _Layout) -> Text:
    """Labels under as many columns as leave room between them."""
    labels = [_label(value) for value in layout.across]
    line = ""
    for column, label in enumerate(labels):
        middle = layout.margin + column * layout.cell + (layout.cell - 1) // 2
        start = max(layout.margin, middle - (len(label) - 1) // 2)
        if not line or start >= len(line) + 2:
            line = line.ljust(start) + label
    return Text(line)


def _diverging(position: float) -> Style:
    """The colour of a rate between -1 and 1 of the scale; the root spreads what is near zero."""
    share = math.sqrt(abs(position))
    towards, middle = ENDS[2 if position > 0 else 0], ENDS[1]
    mixed = tuple(round(m + share * (t - m)) for m, t in zip(middle, towards, strict=True))
    light = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2] > 140
    ink = Color.from_rgb(0, 0, 0) if light else Color.from_rgb(255, 255, 255)
    return Style(color=ink, bgcolor=Color.from_rgb(*mixed), bold=True)


def critical_words(critical: CriticalSigma | None) -> str:
    """``1.147 ±0.019   1.193``: measured, its uncertainty, theory's."""
    if critical is None:
        return ""
    theory = "-" if critical.theory is None else f"{critical.theory:.3f}"
    if critical.sigma is None or critical.uncertainty is None:
        return f"{'not in range':<16}{theory}"
    measured = f"{critical.sigma:.3f} ±{critical.uncertainty:.3f}"
    return f"{measured:<16}{theory}"


def _critical_table(sweep: Sweep) -> RenderableType:
    (other,) = (name for name in varying(sweep.axes) if name != "sigma")
    table_ = titled_table("Critical sigma")
    for heading in (KINDS[other].heading, "measured", "interval over nets", "theory"):
        table_.add_column(heading, justify="right")
    for critical in sweep.critical:
        value = dict(critical.at)[other]
        interval = "-" if critical.interval is None else f"{critical.interval[0]:.3f}..{critical.interval[1]:.3f}"
        table_.add_row(
            short(value) if isinstance(value, float) else str(value),
            "not in range" if critical.sigma is None else f"{critical.sigma:.3f}",
            interval,
            "-" if critical.theory is None else f"{critical.theory:.3f}",
        )
    return table_
