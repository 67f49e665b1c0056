"""Theory compared with measurement, for the terminal and for Markdown: random nets only."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from rnndiag.renderers.numbers import short
from rnndiag.renderers.tables import titled_table
from rnndiag.theory.comparison import LayerTheory, Theory

AGREEMENT = {True: ("agrees", "green"), False: ("differs", "yellow"), None: ("-", "dim")}

MARKDOWN_COLUMNS = (
    "layer",
    "sigma",
    "critical sigma",
    "input v",
    "fixed point q",
    "mean field",
    "expected at this width (95 %)",
    "measured (95 %)",
    "",
)


def theory_section(theory: Theory) -> RenderableType:
    """A row of two lines for each layer, and what they say in words."""
    if not theory.applies:
        return Text(f"\nTheory does not apply: {theory.reason}", style="dim")
    table = titled_table("Theory beside measurement: the top exponent, nats per step")
    table.add_column("layer\n ", overflow="fold")
    for heading in ("sigma\ncritical", "input v\nfixed q", "mean field\ndepth scale"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("at this width\n95 % of nets", justify="right", no_wrap=True)
    table.add_column("measured\n95 %", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for layer in theory.layers:
        table.add_row(*_row(layer))
    return Group(table, Text("\n".join(in_words(theory))))


def _row(layer: LayerTheory) -> Iterator[RenderableType]:
    yield layer.layer
    yield _two(short(layer.sigma), short(layer.critical_sigma))
    yield _two(short(layer.input_variance), short(layer.fixed_point_q))
    yield _two(f"{layer.rate:.4f}", "-" if math.isinf(layer.depth_scale) else f"{short(layer.depth_scale)} steps")
    yield _two(f"{layer.finite_size_rate:.4f}", interval(layer.finite_size_interval))
    if layer.measured_rate is None:
        yield "-"
    else:
        yield _two(f"{layer.measured_rate:.4f}", interval(layer.measured_interval))
    yield Text(*AGREEMENT[layer.agrees])


def _two(above: str, below: str) -> Text:
    return Text.assemble(above, (f"\n{below}", "dim"))


def interval(bounds: tuple[float, float] | None) -> str:
    """``low..high``; a dash where it is not known."""
    if bounds is None or math.isnan(bounds[0]):
        return "-"
    return f"{bounds[0]:.3f}..{bounds[1]:.3f}"


def in_words(theory: Theory) -> Iterator[str]:
    """What theory says of the layer that decides, in a line, and what else must be known to read it."""
    (layer,) = (layer for layer in theory.layers if layer.layer == theory.layer)
    says = "vanishing gradients" if layer.rate < 0 else "chaos and exploding gradients"
    yield (
        f"{layer.layer}: mean field says {says if layer.rate else 'critical'} at sigma = {short(layer.sigma)}; on this "
        f"probe the edge of chaos is at {short(layer.critical_sigma)}."
    )
    if layer.at_rest and layer.rate > 0:
        yield (
            "Without input it stays at zero, an unstable fixed point; --probe impulse shows what becomes of it once it "
            "is moved."
        )


def markdown_blocks(theory: Theory) -> Iterator[str]:
    """A heading and a table, or the reason why there is none."""
    yield "### Theory"
    if not theory.applies:
        yield f"Does not apply: {theory.reason}"
        return
    lines = [f"| {' | '.join(MARKDOWN_COLUMNS)} |", "|---|" + "---:|" * (len(MARKDOWN_COLUMNS) - 2) + "---|"]
    for layer in theory.layers:
        measured = "-"
        if layer.measured_rate is not None:
            measured = f"{layer.measured_rate:.4f} ({interval(layer.measured_interval)})"
        cells = (
            f"`{layer.layer}`",
            short(layer.sigma),
            short(layer.critical_sigma),
            short(layer.input_variance),
            short(layer.fixed_point_q),
            f"{layer.rate:.4f}",
            f"{layer.finite_size_rate:.4f} ({interval(layer.finite_size_interval)})",
            measured,
            AGREEMENT[layer.agrees][0],
        )
        lines.append(f"| {' | '.join(cells)} |")
    yield "\n".join(lines)
    yield " ".join(in_words(theory))
