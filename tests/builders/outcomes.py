"""What rnndiag makes of a cell: its own states, or a refusal, or another cell under a stated assumption."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rnndiag.checkpoint.model import Model
from rnndiag.errors import RnndiagError
from rnndiag.trajectory import run_stack

PLAIN = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
"""The parameters of PyTorch's cells; a cell with these alone cannot be told from PyTorch's by its file."""


def states_of(model: Model, inputs: Tensor) -> Tensor:
    """``h_1 .. h_T`` of the only layer, in float64."""
    if model.steps:
        (step,) = model.steps
        layer = step.layer(inputs)
        return layer.states(inputs)[1:, :, : layer.output_size]
    (stack,) = model.stacks
    return run_stack(stack.to(torch.float64), inputs)[-1][0].hidden


def own_run(cell: nn.Module, form: str, inputs: Tensor, hidden: int = 5) -> Tensor:
    """The states by calling the cell itself in a loop, in float64.

    Args:
        cell: is left as it is.
        form: how it is called, and what it returns: ``single``, ``state first``, ``pair``, ``spread`` and ``list``
            return the state; ``output state`` and ``output pair`` return it after an output.
        inputs: ``[T, B, D]``
        hidden: ``H``
    """
    cell = copy.deepcopy(cell, {id(value): None for value in vars(cell).values() if torch.is_tensor(value)})
    cell = cell.double().eval()
    zero = torch.zeros(inputs.shape[1], hidden, dtype=torch.float64)
    state, out = (zero, zero) if form in ("pair", "output pair", "spread") else zero, []
    for x in inputs:
        if form == "state first":
            state = cell(state, x)
        elif form == "spread":
            state = cell(x, *state)
        elif form == "list":
            state = cell(x, [state])[1][0]
        else:
            state = cell(x, state)[1] if form.startswith("output") else cell(x, state)
        out.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(out).detach()


def outcome(load: Callable[[], Model], name: str, inputs: Tensor, expected: Tensor) -> str:
    """``right``, ``refused``, ``assumed`` or ``wrong``.

    Args:
        load: reads the cell.
        name: the name that a refusal must give.
        inputs: ``[T, B, D]``
        expected: the states of the cell's own run.
    """
    try:
        model = load()
    except RnndiagError as error:
        return "refused" if name in str(error) else f"refused without its name: {error}"
    if not model.stacks and not model.steps:
        return "nothing was found"
    found = states_of(model, inputs)
    if found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=1e-9):
        return "right"
    assumed = [note for note in model.notes if name in note and ("assumed" in note or "measured as" in note)]
    return "assumed" if assumed or any(getattr(stack, "assumed_class", "") for stack in model.stacks) else "wrong"
