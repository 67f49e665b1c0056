"""Whether the layers that were found in a module compute the states that the module's own forward computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from rnndiag.cells.module_step import CallForm, plain
from rnndiag.checkpoint.live.forward import same
from rnndiag.trajectory import run_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.cells.layer import Stack

STEPS: Final = 5
SEQUENCES: Final = 2
SCALES: Final = (1.0, 10.0)
"""The scales of the probes: the larger scale also reaches limits on a state, such as the clipping of an LSTM's cell."""


def agrees(stack: Stack, module: nn.Module, form: CallForm | None) -> bool:
    """Whether the states of a stack are the states of a module, both in float64 and from zero.

    Args:
        stack: as it was found, in the dtypes of the module.
        module: a private copy of the module. It is called within ``isolated``.
        form: the form in which the module is a step; None where there is no such form.
    """
    working = stack.to(torch.float64)
    stream = torch.Generator().manual_seed(0)
    for scale in SCALES:
        inputs = scale * torch.randn(STEPS, SEQUENCES, stack.input_size, dtype=torch.float64, generator=stream)
        levels = _levels(working, inputs)
        if form is not None and _by_steps(levels, module, form, inputs):
            continue
        if not _by_sequence(levels, module, inputs):
            return False
    return True


def _levels(stack: Stack, inputs: Tensor) -> list[list[Tensor]]:
    """The hidden states ``[T, B, R]`` of each level and direction, in the order of the sequence."""
    levels = []
    for level in stack.levels:
        runs = [run_states(layer, inputs) for layer in level]
        levels.append([run.hidden.flip(0) if run.layer.direction == "reverse" else run.hidden for run in runs])
        inputs = torch.cat(levels[-1], dim=-1)
    return levels


def _by_steps(levels: Sequence[Sequence[Tensor]], module: nn.Module, form: CallForm, inputs: Tensor) -> bool:
    """Whether a part of the module's state is the hidden states of all levels, after each step."""
    if any(len(level) > 1 for level in levels):
        return False
    expected = torch.cat([level[0] for level in levels], dim=-1)
    rows = form.zeros(inputs.shape[1], inputs)
    path = []
    try:
        for x in inputs:
            rows = form.step(module, rows, x)
            path.append(rows)
    except Exception:  # the module's own code; a module that cannot be run agrees with nothing
        return False
    return any(same(expected, torch.stack(part)) for part in zip(*path, strict=True))


def _by_sequence(levels: Sequence[Sequence[Tensor]], module: nn.Module, inputs: Tensor) -> bool:
    """Whether a tensor in the module's result is the outputs of the highest level, or the last states of all."""
    outputs = torch.cat(list(levels[-1]), dim=-1)
    lasts = [hidden[0] if i else hidden[-1] for level in levels for i, hidden in enumerate(level)]
    batch_first = getattr(module, "batch_first", None)
    for transposed in (False, True) if not isinstance(batch_first, bool) else (batch_first,):
        try:
            result = plain(module(inputs.transpose(0, 1) if transposed else inputs))
        except Exception:  # as above
            continue
        expected = [outputs.transpose(0, 1) if transposed else outputs]
        if len({last.shape for last in lasts}) == 1:
            expected.append(torch.stack(lasts))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor) and any(same(each, leaf) for each in expected):
                return True
    return False
