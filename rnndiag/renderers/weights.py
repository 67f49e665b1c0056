"""The recurrent weights compared with theory: the closest initialization, and the outliers of the spectrum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.weights.initialization import REJECTED
from rnndiag.renderers.numbers import short
from rnndiag.renderers.tables import titled_table

MIN_UNITS = 16
"""With fewer units, any law fits the few entries, and a line about it would say nothing."""

LAWS = {
    "pytorch_uniform": "U(±1/√H)",
    "xavier_uniform": "Xavier's uniform",
    "xavier_normal": "Xavier's (LeCun's) normal",
    "xavier_normal_truncated": "Xavier's (LeCun's) truncated normal",
    "xavier_uniform_stacked": "Xavier's uniform over all gates",
    "xavier_normal_stacked": "Xavier's normal over all gates",
    "xavier_normal_truncated_stacked": "Xavier's truncated normal over all gates",
    "he_uniform": "He's uniform",
    "he_normal": "He's normal",
    "he_normal_truncated": "He's truncated normal",
    "lecun_uniform": "LeCun's uniform",
    "lecun_normal": "LeCun's normal",
    "gaussian": "a Gaussian of its own scale",
    "orthogonal": "an orthogonal draw",
    "identity": "a multiple of the identity",
    "zeros": "zeros",
}
"""What people call each law."""


DEFAULTS = {"PyTorch": "pytorch_uniform", "Keras": "orthogonal"}
"""How each framework draws ``W_hh`` by default."""


def untrained_lines(layers: Sequence[LayerMeasures], framework: str, *, verbose: bool) -> Text | None:
    """A line for each layer whose ``W_hh`` still looks freshly drawn; with ``verbose`` for every layer."""
    lines = list(_lines(layers, framework, verbose=verbose))
    return Text("\n" + "\n".join(lines)) if lines else None


def _lines(layers: Sequence[LayerMeasures], framework: str, *, verbose: bool) -> Iterator[str]:
    for layer in layers:
        closest = layer.recurrent_weight.closest_init if layer.recurrent_weight else None
        if closest is None or layer.hidden_size < MIN_UNITS:
            continue
        if closest.p_value >= REJECTED:
            default = f"{framework}'s default, " if DEFAULTS.get(framework) == closest.name else ""
            p_value = short(closest.p_value, 2)
            yield f"{layer.name}: W_hh still looks like {default}{LAWS[closest.name]}: p = {p_value}"
        elif verbose:
            p_value = _below(closest.p_value)
            yield f"{layer.name}: W_hh fits no known initialisation (closest {closest.name}: p {p_value})"


def _below(p_value: float) -> str:
    return "< 1e-16" if p_value < 1e-16 else f"= {short(p_value, 2)}"


def weight_table(layers: Sequence[LayerMeasures]) -> RenderableType:
    """Each block of ``W_hh``: its spectrum, and what lies outside that of independent entries."""
    table = titled_table("Recurrent weight by gate, beside independent entries")
    table.add_column("layer\ngate", overflow="fold")
    for heading in ("norm\nbulk edge", "radius\nbulk σ"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("condi-\ntion", "nonnor-\nmality", "eff.\nrank"):
        table.add_column(heading, justify="right")
    table.add_column("outliers\nsv, eig", justify="right", no_wrap=True)
    table.add_column("looks like\np", no_wrap=True)
    for layer in layers:
        for name, block in layer.recurrent_weight.blocks.items() if layer.recurrent_weight else ():
            closest = block.closest_init
            fits = closest is not None and closest.p_value >= REJECTED
            table.add_row(
                _two(layer.name, name),
                _two(short(block.spectral_norm), short(block.bulk_edge)),
                _two(short(block.spectral_radius), short(block.bulk_scale)),
                short(block.condition_number),
                short(block.nonnormality),
                short(block.effective_rank),
                f"{block.singular_outliers}, {block.outliers}",
                _two(closest.name.replace("_", " "), short(closest.p_value, 2)) if closest and fits else "-",
            )
    return table


def _two(above: str, below: str) -> Text:
    return Text.assemble(above, (f"\n{below}", "dim"))
