"""Train many small recurrent nets of one shape at once, each on its own: batched products instead of a loop.

Nets share the batches and nothing else: each has its own parameters, gradient norm, clip and Adam state. One that
has learnt leaves the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from cure_tasks import Task
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer

Layers = Sequence[RecurrentLayer]
"""Of one net, from the input up."""


@dataclass(frozen=True)
class Recipe:
    """Adam with the gradient norm of each net clipped; the same for every net of a task."""

    rate: float = 2e-3
    batch: int = 32
    clip: float = 1.0
    check: int = 100
    """updates between two looks at the held-out sequences"""


@dataclass(frozen=True)
class Outcome:
    """How the training of one net went."""

    learnt: int | None
    """updates until the held-out score was within the task's bound; None: never within the budget"""
    score: float
    """the last held-out score"""


class TanhStates(torch.autograd.Function):
    """``h_1 .. h_T`` of tanh nets by their preactivations without recurrence; backpropagation through time by hand.

    One product per step each way and one for all of ``dL/dW_hh``, where autograd would make one more for each step.
    """

    @staticmethod
    def forward(ctx, driven: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        """``driven [T, N, B, H]`` (overwritten by the states), ``weight [N, H, H]``."""
        transposed = weight.mT
        driven[0].tanh_()
        for t in range(1, len(driven)):
            driven[t].baddbmm_(driven[t - 1], transposed).tanh_()
        ctx.mark_dirty(driven)
        ctx.save_for_backward(driven, weight)
        return driven

    @staticmethod
    def backward(ctx, gradients: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
        states, weight = ctx.saved_tensors
        sent = torch.empty_like(states)
        slopes = 1 - states.square()
        last = len(states) - 1
        torch.mul(gradients[last], slopes[last], out=sent[last])
        for t in reversed(range(last)):
            torch.baddbmm(gradients[t], sent[t + 1], weight, out=sent[t]).mul_(slopes[t])
        before = states[:-1].permute(1, 0, 2, 3).flatten(1, 2)
        after = sent[1:].permute(1, 0, 2, 3).flatten(1, 2)
        return sent, after.mT @ before


def tanh_states(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return TanhStates.apply(_driven(p, x), p["weight_hh"])  # type: ignore[no-any-return, no-untyped-call]


def lstm_states(p: dict[str, Tensor], x: Tensor) -> Tensor:
    driven, transposed = _driven(p, x), p["weight_hh"].mT
    h = c = driven.new_zeros(())
    states = []
    for t, from_input in enumerate(driven.unbind(0)):
        rows = torch.baddbmm(from_input, h, transposed) if t else from_input
        gates, candidate = rows.sigmoid(), rows.chunk(4, -1)[2].tanh()
        keep, forget, _, out = gates.chunk(4, -1)
        c = forget * c + keep * candidate
        h = out * c.tanh()
        states.append(h)
    return torch.stack(states)


def gru_states(p: dict[str, Tensor], x: Tensor) -> Tensor:
    driven, transposed = _driven(p, x), p["weight_hh"].mT
    width = p["weight_hh"].shape[-1]
    h = driven.new_zeros(*driven.shape[1:3], width)
    states = []
    for from_input in driven.unbind(0):
        recurrent = torch.baddbmm(p["bias_hh"][:, None], h, transposed)
        reset, update = (from_input + recurrent)[..., : 2 * width].sigmoid().chunk(2, -1)
        candidate = (from_input[..., 2 * width :] + reset * recurrent[..., 2 * width :]).tanh()
        h = candidate + update * (h - candidate)
        states.append(h)
    return torch.stack(states)


STATES = {"tanh": tanh_states, "lstm": lstm_states, "gru": gru_states}


def _driven(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """``W_ih x + b`` of each net, ``[T, N, B, G*H]``, from inputs ``[T, B, D]`` for all or ``[T, N, B, D]``."""
    x = x[:, None] if x.ndim == 3 else x
    return torch.matmul(x, p["weight_ih"].mT) + p["bias_ih"][:, None]


def last_states(p: dict[str, Tensor], x: Tensor, cell: str, depth: int) -> Tensor:
    """The last states of the top level, ``[N, B, H]``; the parameters of level ``i`` are named ``i.weight_hh``, ...."""
    for level in range(depth):
        own = {name.partition(".")[2]: value for name, value in p.items() if name.startswith(f"{level}.")}
        x = STATES[cell](own, x)
    return x[-1]


def stacked(nets: Sequence[Layers], outputs: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The parameters of nets of one shape as ``[N, ...]`` float32, with heads drawn like PyTorch's by ``seeds``.

    The two biases of a cell that only adds them are one: trained as two they would learn twice as fast.
    """
    columns = [_parameters(net, outputs, seed) for net, seed in zip(nets, seeds, strict=True)]
    return {name: torch.stack([column[name] for column in columns]).float() for name in columns[0]}


def _parameters(net: Layers, outputs: int, seed: int) -> dict[str, Tensor]:
    own = {f"{level}.{name}": value for level, layer in enumerate(net) for name, value in _of_layer(layer).items()}
    stream = torch.Generator().manual_seed(seed)
    width = net[-1].hidden_size
    bound = 1 / math.sqrt(width)
    drawn = torch.empty(outputs, width + 1, dtype=torch.float64).uniform_(-bound, bound, generator=stream)
    return own | {"head": drawn[:, :-1], "head_bias": drawn[:, -1]}


def _of_layer(layer: RecurrentLayer) -> dict[str, Tensor]:
    zeros = torch.zeros(layer.weight_hh.shape[0], dtype=torch.float64)
    bias_ih = zeros if layer.bias_ih is None else layer.bias_ih.double()
    bias_hh = zeros if layer.bias_hh is None else layer.bias_hh.double()
    own = {"weight_ih": layer.weight_ih.double(), "weight_hh": layer.weight_hh.double()}
    return own | ({"bias_ih": bias_ih, "bias_hh": bias_hh} if layer.cell == "gru" else {"bias_ih": bias_ih + bias_hh})


def train(
    nets: Sequence[Layers], task: Task, recipe: Recipe, seeds: Sequence[int], data_seed: int, device: str = "cpu"
) -> list[Outcome]:
    """Train nets of one cell and shape on the same batches; see the module."""
    cell, depth = nets[0][0].cell, len(nets[0])
    p = {name: value.to(device) for name, value in stacked(nets, task.outputs, seeds).items()}
    moments = [{k: torch.zeros_like(v) for k, v in p.items()} for _ in range(2)]
    outcomes = [Outcome(None, math.nan)] * len(nets)
    here = torch.arange(len(nets))
    held_x, held_y = (held.to(device) for held in task.held_out(data_seed))

    def outputs(x: Tensor) -> Tensor:
        return torch.baddbmm(p["head_bias"][:, None], last_states(p, x, cell, depth), p["head"].mT)

    for update, batch in enumerate(task.batches(data_seed, recipe.batch), 1):
        x, y = (part.to(device) for part in batch)
        for value in p.values():
            value.requires_grad_(True)
        losses = task.losses(outputs(x), y)
        gradients = dict(zip(p, torch.autograd.grad(losses.sum(), list(p.values())), strict=True))
        with torch.no_grad():
            _adam(p, gradients, moments, update, recipe)
            if update % recipe.check == 0 or update == task.updates:
                scores = task.scores(outputs(held_x), held_y)
                for net, score in zip(here.tolist(), scores.tolist(), strict=True):
                    outcomes[net] = Outcome(update if score <= task.learnt else None, score)
                left = ~(scores <= task.learnt)  # NaN stays, and never learns
                here = here[left.cpu()]
                p = {k: v[left] for k, v in p.items()}
                moments = [{k: v[left] for k, v in moment.items()} for moment in moments]
                if update == task.updates or not len(here):
                    return outcomes
    raise AssertionError("batches have no end")


def _adam(
    p: dict[str, Tensor],
    gradients: dict[str, Tensor],
    moments: list[dict[str, Tensor]],
    update: int,
    recipe: Recipe,
    betas: tuple[float, float] = (0.9, 0.999),
) -> None:
    """One step of Adam (Kingma & Ba 2015) on every net; a net whose gradient is not finite stands still."""
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
    scale = (recipe.clip / norms).clamp(max=1)
    scale = torch.where(norms.isfinite(), scale, torch.zeros_like(scale))
    for name, gradient in gradients.items():
        g = gradient.nan_to_num(0, 0, 0) * scale.view(-1, *[1] * (gradient.ndim - 1))
        first, second = (moment[name] for moment in moments)
        first.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        second.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        corrected = (second / (1 - betas[1] ** update)).sqrt_().add_(1e-8)
        p[name] = p[name].detach() - recipe.rate / (1 - betas[0] ** update) * first / corrected
