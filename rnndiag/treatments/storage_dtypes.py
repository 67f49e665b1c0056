"""The numbers of layers in float64, where treatments work, and in the types in which their file holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack

Types = Mapping[str, Mapping[str, torch.dtype]]
"""Of each parameter of each layer, by their names."""


def types_of(stack: Stack) -> Types:
    """The types in which a file holds a stack."""
    return {layer.name: {name: p.dtype for name, p in layer.parameters.items()} for layer in stack.layers}


def exact(stack: Stack) -> Stack:
    """A stack in float64 on the processor: the same numbers, since no type of a file is wider."""
    return _each(stack, lambda layer: layer.to(torch.float64))


def in_types(stack: Stack, types: Types) -> Stack:
    """A stack rounded to the types of a file; a parameter that the file does not hold, to those of ``weight_hh``."""

    def typed(layer: RecurrentLayer) -> RecurrentLayer:
        held = types[layer.name]
        named: dict[str, Tensor] = {
            name: p.to(held.get(name, held["weight_hh"])) for name, p in layer.parameters.items()
        }
        return replace(layer, **named)  # type: ignore[arg-type]  # the keys are field names

    return _each(stack, typed)


def measurable(stack: Stack, dtype: torch.dtype, device: torch.device) -> Stack:
    """A stack in the precision and on the device of a measurement."""
    return _each(stack, lambda layer: layer.to(dtype, device))


def _each(stack: Stack, of: Callable[[RecurrentLayer], RecurrentLayer]) -> Stack:
    return replace(stack, levels=tuple(tuple(of(layer) for layer in level) for level in stack.levels))
