"""Layers with random weights, and PyTorch's own module for each of them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from hypothesis import strategies as st
from torch import nn

from rnndiag import kinds
from rnndiag.cells import CELLS
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.random_nets import CellName
from tests.oracles.variants import VARIANTS, Variant, with_form

KINDS: tuple[CellName, ...] = ("tanh", "relu", "gru", "lstm")
Form = CellName | Literal["reset-first"]
FORMS: tuple[Form, ...] = (*KINDS, "reset-first")
"""The cells, and the GRU that ``reset_after = False`` makes another cell of."""


def layer(
    kind: Form,
    inputs: int = 4,
    hidden: int = 6,
    *,
    proj: int = 0,
    bias: bool = True,
    scale: float = 1.5,
    seed: int = 0,
    name: str = "rnn.l0",
    dtype: torch.dtype = torch.float64,
    reverse: bool = False,
) -> RecurrentLayer:
    """Entries N(0, scale^2 / fan in); biases N(0, 0.25)."""
    generator = torch.Generator().manual_seed(seed)
    cell: CellName = "gru" if kind == "reset-first" else kind

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    rows, width = len(kinds.KINDS[cell].family.gates) * hidden, proj or hidden
    return RecurrentLayer(
        name,
        cell,
        normal(rows, inputs) / inputs**0.5,
        normal(rows, width) * (scale / width**0.5),
        normal(rows) / 2 if bias else None,
        normal(rows) / 2 if bias else None,
        normal(proj, hidden) / hidden**0.5 if proj else None,
        "reverse" if reverse else "forward",
        reset_after=kind != "reset-first",
    )


def variant(
    name: str, inputs: int = 4, hidden: int = 6, *, affine: bool = True, seed: int = 0, **options: Any
) -> RecurrentLayer:
    """A layer of one of the ``VARIANTS``; ``options`` are those of ``layer``."""
    plain, cell, form = VARIANTS[name]
    net = layer(plain, inputs, hidden, seed=seed, **options)  # type: ignore[arg-type]  # a Form
    return with_form(net, cell, form, affine=affine, seed=seed)


def stack(
    kind: Form, levels: int, *, inputs: int = 3, hidden: int = 5, proj: int = 0, bidirectional: bool = False
) -> Stack:
    built = []
    directions = (False, True) if bidirectional else (False,)
    for i in range(levels):
        width = inputs if i == 0 else (proj or hidden) * len(directions)
        built.append(
            tuple(
                layer(kind, width, hidden, proj=proj, seed=10 * i + r, reverse=r, name=f"rnn.l{i}" + ".reverse" * r)
                for r in directions
            )
        )
    return Stack("rnn", tuple(built))


def module(of: RecurrentLayer) -> nn.Module:
    """PyTorch's module with the layer's parameters, run in the layer's own order of time."""
    if not (of.kind.of_pytorch and of.reset_after):
        return Variant(of)
    built = CELLS[of.cell].kernel(of).to(of.weight_hh.dtype)
    with torch.no_grad():
        for name, parameter in of.parameters.items():
            getattr(built, f"{name}_l0").copy_(parameter)
    return built


@st.composite
def layers(draw: st.DrawFn) -> RecurrentLayer:
    kind = draw(st.sampled_from(FORMS))
    hidden = draw(st.integers(1, 9))
    return layer(
        kind,
        draw(st.integers(1, 5)),
        hidden,
        proj=draw(st.integers(0, hidden - 1)) if kind == "lstm" else 0,
        bias=draw(st.booleans()),
        scale=draw(st.floats(0.1, 4)),
        seed=draw(st.integers(0, 2**16)),
    )
