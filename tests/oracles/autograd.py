"""Exact derivatives of PyTorch's own modules, one step and one sequence at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer, Stack
from tests.oracles.nets import module


def states(layer: RecurrentLayer, inputs: Tensor) -> Tensor:
    """``s_0 .. s_T`` as ``[T+1, B, S]``, stepping PyTorch's module in the layer's own order of time."""
    rnn = module(layer)
    batch = inputs.shape[1]
    width, size = layer.output_size, layer.state_size
    collected = [torch.zeros(batch, size, dtype=inputs.dtype)]
    for x in inputs:
        collected.append(_step(rnn, layer, collected[-1], x, width).detach())
    return torch.stack(collected)


def jacobians(layer: RecurrentLayer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """``ds_t/ds_{t-1}`` ``[T, B, S, S]`` and ``ds_t/dx_t`` ``[T, B, S, D]`` by reverse-mode autograd."""
    rnn, trajectory = module(layer), states(layer, inputs)
    by_state, by_input = [], []
    for t, x in enumerate(inputs):
        for b in range(inputs.shape[1]):

            def step(s: Tensor, u: Tensor) -> Tensor:
                return _step(rnn, layer, s[None], u[None], layer.output_size)[0]

            one, two = torch.autograd.functional.jacobian(step, (trajectory[t, b], x[b]))
            by_state.append(one)
            by_input.append(two)
    shape = inputs.shape[:2]
    return (torch.stack(each).reshape(*shape, *each[0].shape) for each in (by_state, by_input))


def _step(rnn: torch.nn.Module, layer: RecurrentLayer, state: Tensor, x: Tensor, width: int) -> Tensor:
    if layer.kind.has_cell_state:
        _, (h, c) = rnn(x[None], (state[None, :, :width].contiguous(), state[None, :, width:].contiguous()))
        return torch.cat((h[0], c[0]), dim=-1)
    return rnn(x[None], state[None].contiguous())[1][0]


def carried_adjoints(stack: Stack, inputs: Tensor, seeds: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients at the states that pass from step to step, and at the inputs.

    Args:
        stack: any number of levels and directions.
        inputs: ``[T, B, D]``.
        seeds: gradient at the last state ``h`` of top layers, by name, ``[B, R]``.

    Returns:
        By layer name ``[T, B, S]``: entry ``i`` is the gradient at ``s_i`` through the recurrence alone, in the
        layer's own time; and ``[T, B, D]`` at the inputs.
    """
    x = inputs.clone().requires_grad_()
    below, handed_on, loss = x, {}, torch.zeros((), dtype=inputs.dtype)
    for level in stack.levels:
        outputs = []
        for layer in level:
            rnn, width = module(layer), layer.output_size
            own = below.flip(0) if layer.direction == "reverse" else below
            state = torch.zeros(inputs.shape[1], layer.state_size, dtype=inputs.dtype)
            carried, hidden = [], []
            for u in own:
                # A copy for the recurrence alone: its gradient leaves out what the level above sends.
                copy = state.clone().requires_grad_() if not state.requires_grad else state.clone()
                copy.retain_grad()
                carried.append(copy)
                state = _step(rnn, layer, copy, u, width)
                hidden.append(state[:, :width])
            handed_on[layer.name] = carried
            if layer.name in seeds:
                loss = loss + (state[:, :width] * seeds[layer.name]).sum()
            out = torch.stack(hidden)
            outputs.append(out.flip(0) if layer.direction == "reverse" else out)
        below = torch.cat(outputs, dim=-1)
    loss.backward()

    def gradient(of: Tensor) -> Tensor:
        return torch.zeros_like(of) if of.grad is None else of.grad

    return {name: torch.stack([gradient(s) for s in c]) for name, c in handed_on.items()}, gradient(x)
