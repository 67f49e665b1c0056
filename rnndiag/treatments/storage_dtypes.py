"""The numbers of treated layers, rounded as the file of the model stores them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack


def rounded(stack: Stack, stored: Stack) -> Stack:
    """A treated stack in the dtypes in which the file stores the untreated stack.

    A parameter that the file does not contain gets the dtype of ``weight_hh``.
    """
    parameters = {layer.name: layer.parameters for layer in stored.layers}

    def typed(layer: RecurrentLayer) -> RecurrentLayer:
        in_file = parameters[layer.name]
        named: dict[str, Tensor] = {
            name: p.to(in_file.get(name, in_file["weight_hh"]).dtype) for name, p in layer.parameters.items()
        }
        return layer.with_parameters(named)

    return replace(stack, levels=tuple(tuple(typed(layer) for layer in level) for level in stack.levels))
