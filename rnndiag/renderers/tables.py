"""The one look of all tables, and what they all say of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:  # the catalogue of rules is printed without torch
    from rnndiag.measures.layer import LayerMeasures


def titled_table(title: str) -> Table:
    """A table without frame, a blank line and a bold title above it."""
    return Table(
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
