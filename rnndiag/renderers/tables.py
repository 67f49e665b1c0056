"""The one look of all tables, and what they all say of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # the catalogue of rules is printed without torch
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from rnndiag.measures.layer import LayerMeasures

NARROW = 60
"""Columns. In a narrower terminal, a table whose words do not fit is printed as a list."""


class ListableTable(Table):
    """A table that is printed as a list, with a line for each cell, where the terminal is too narrow for it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < NARROW:
            unlimited = options.update(width=10 * NARROW)
            if Measurement.get(console, unlimited, self).minimum > options.max_width:
                yield from self._as_list(console)
                return
        yield from super().__rich_console__(console, options)

    def _as_list(self, console: Console) -> Iterator[Text]:
        yield Text(str(self.title), style="bold")
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            first = True
            for column, cell in zip(self.columns, cells, strict=True):
                for heading, value in _labeled_lines(_text(console, column.header), _text(console, cell)):
                    yield Text.assemble("" if first else "  ", (f"{heading}: ", "dim"), value)
                    first = False


def _text(console: Console, cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(str(cell))


def _labeled_lines(header: Text, cell: Text) -> Iterator[tuple[str, Text]]:
    """The lines of a cell that are not empty, each with its line of the header."""
    headings, values = header.plain.split("\n"), list(cell.split("\n"))
    if len(headings) != len(values) or headings[0].endswith("-"):
        headings = [" ".join(headings).replace("- ", "")]
        values = [Text(" ").join(values)]
    yield from ((heading, value) for heading, value in zip(headings, values, strict=True) if value.plain.strip())


def titled_table(title: str) -> Table:
    """A table without frame, a blank line and a bold title above it; a list in a narrow terminal."""
    return ListableTable(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def cell_and_size(layer: LayerMeasures, arrow: str) -> str:
    """``lstm 8>64>32``: the cell, its inputs, its units, and the units that it projects them to."""
    sizes = [layer.input_size, layer.hidden_size, *([layer.proj_size] if layer.proj_size else [])]
    form = " (reset first)" if layer.reset_after is False else ""
    return f"{layer.cell}{form} {arrow.join(map(str, sizes))}"
