"""Modules that the file describes as levels of one stack, put together."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from rnndiag.checkpoint.layers.display_names import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rnndiag.cells.layer import Stack
    from rnndiag.checkpoint.contents import Container


def joined(
    stacks: Sequence[Stack], places: Sequence[Place], containers: Iterable[Container]
) -> tuple[tuple[Stack, ...], tuple[tuple[str, ...], ...]]:
    """The stacks, each with those above it that read it, and for each of its levels the path of its module.

    Args:
        stacks: one for each module.
        places: where each module was found.
        containers: state which modules are levels of one stack. A module that was not measured ends its chain.
    """
    below: dict[Place, Place] = {}
    for container in containers:
        path = container.path.parts
        for names in container.chains:
            below |= {Place(path, name): Place(path, lower) for lower, name in pairwise(names)}
    chains: dict[Place, list[tuple[Place, Stack]]] = {}
    """By the place of the highest module so far; the order is that of the lowest."""
    found: list[list[tuple[Place, Stack]]] = []
    for place, stack in zip(places, stacks, strict=True):
        chain = chains.pop(below[place], []) if place in below else []
        if not chain or sum(layer.output_size for layer in chain[-1][1].levels[-1]) != stack.input_size:
            chain = []
            found.append(chain)
        chain.append((place, stack))
        chains[place] = chain
    modules = (tuple(place.module for place, stack in chain for _ in stack.levels) for chain in found)
    return tuple(_one([stack for _, stack in chain]) for chain in found), tuple(modules)


def _one(chain: Sequence[Stack]) -> Stack:
    lowest = chain[0]
    if len(chain) == 1:
        return lowest
    levels = tuple(level for stack in chain for level in stack.levels)
    return replace(lowest, name=f"{lowest.name} to {chain[-1].name}", levels=levels)
