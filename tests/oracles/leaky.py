"""The leaky cells, written out a step at a time as their papers have them, for autograd."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from tests.oracles.nets import layer as plain_layer

LEAKY = ("leaky_tanh", "leaky_relu", "leaky_current_tanh", "leaky_current_relu")


def layer(kind: str, inputs: int = 4, hidden: int = 6, *, alpha: Tensor | float = 0.3, **more) -> RecurrentLayer:
    """A layer with random weights; ``alpha`` is one number or one per unit."""
    base = plain_layer("tanh", inputs, hidden, **more)
    leak = torch.as_tensor(alpha, dtype=torch.float64).reshape(-1).to(base.weight_hh)
    return replace(base, cell=kind, extra={"alpha": leak})


def step(of: RecurrentLayer, state: Tensor, x: Tensor) -> Tensor:
    """One step of states ``[B, H]`` and inputs ``[B, D]``."""
    phi = torch.tanh if of.cell.endswith("tanh") else torch.relu
    alpha = of.extra["alpha"]
    bias = sum((b for b in (of.bias_ih, of.bias_hh) if b is not None), torch.zeros(1, dtype=x.dtype))
    if "current" in of.cell:
        return (1 - alpha) * state + alpha * (phi(state) @ of.weight_hh.T + x @ of.weight_ih.T + bias)
    return (1 - alpha) * state + alpha * phi(state @ of.weight_hh.T + x @ of.weight_ih.T + bias)


def states(of: RecurrentLayer, inputs: Tensor) -> Tensor:
    """``s_1 .. s_T``."""
    state, found = torch.zeros(inputs.shape[1], of.hidden_size, dtype=inputs.dtype), []
    for x in inputs:
        state = step(of, state, x)
        found.append(state)
    return torch.stack(found)


def jacobians(of: RecurrentLayer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """``ds_t/ds_{t-1}`` ``[T, B, H, H]`` and ``ds_t/dx_t`` ``[T, B, H, D]`` by autograd."""
    before = torch.cat((torch.zeros_like(states(of, inputs[:1])), states(of, inputs)[:-1]))
    pairs = [
        torch.autograd.functional.jacobian(lambda s, u: step(of, s[None], u[None])[0], (before[t, b], inputs[t, b]))
        for t in range(len(inputs))
        for b in range(inputs.shape[1])
    ]
    shape = inputs.shape[:2]
    return tuple(torch.stack([pair[i] for pair in pairs]).unflatten(0, shape) for i in range(2))
