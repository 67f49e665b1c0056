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


class TanhLast(torch.autograd.Function):
    """``h_T`` of tanh nets by their preactivations without recurrence; backpropagation through time by hand.

    One product a step each way and one for all of ``dL/dW_hh``, where autograd would make one more for each step.
    """

    @staticmethod
    def forward(ctx, driven: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        """``driven [T, N, B, H]`` (overwritten by the states), ``weight [N, H, H]``."""
        transposed = weight.mT
        states = driven
        states[0].tanh_()
        for t in range(1, len(states)):
            states[t].baddbmm_(states[t - 1], transposed).tanh_()
        ctx.save_for_backward(weight)
        ctx.states = states
        return states[-1].clone()

    @staticmethod
    def backward(ctx, last: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
        (weight,) = ctx.saved_tensors
        states = ctx.states
        sent = torch.empty_like(states)
        slopes = 1 - states.square()
        for t in reversed(range(len(states))):
            torch.mul(last, slopes[t], out=sent[t])
            if t:
                last = torch.bmm(sent[t], weight)
        before = states[:-1].permute(1, 0, 2, 3).flatten(1, 2)
        after = sent[1:].permute(1, 0, 2, 3).flatten(1, 2)
        return sent, after.mT @ before


def tanh_last(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return TanhLast.apply(_driven(p, x), p["weight_hh"])  # type: ignore[no-any-return, no-untyped-call]


def lstm_last(p: dict[str, Tensor], x: Tensor) -> Tensor:
    driven, transposed = _driven(p, x), p["weight_hh"].mT
    h = c = torch.zeros(())
    for t, from_input in enumerate(driven.unbind(0)):
        rows = torch.baddbmm(from_input, h, transposed) if t else from_input
        gates, candidate = rows.sigmoid(), rows.chunk(4, -1)[2].tanh()
        keep, forget, _, out = gates.chunk(4, -1)
        c = forget * c + keep * candidate
        h = out * c.tanh()
    return h


def gru_last(p: dict[str, Tensor], x: Tensor) -> Tensor:
    driven, transposed = _driven(p, x), p["weight_hh"].mT
    width = p["weight_hh"].shape[-1]
    h = torch.zeros(driven.shape[1], driven.shape[2], width)
    for from_input in driven.unbind(0):
        recurrent = torch.baddbmm(p["bias_hh"][:, None], h, transposed)
        reset, update = (from_input + recurrent)[..., : 2 * width].sigmoid().chunk(2, -1)
        candidate = (from_input[..., 2 * width :] + reset * recurrent[..., 2 * width :]).tanh()
        h = candidate + update * (h - candidate)
    return h


LAST = {"tanh": tanh_last, "lstm": lstm_last, "gru": gru_last}


def _driven(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """``W_ih x + b`` of each net: ``[T, N, B, G*H]``."""
    return torch.matmul(x[:, None], p["weight_ih"].mT) + p["bias_ih"][:, None]


def stacked(layers: Sequence[RecurrentLayer], outputs: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The parameters of nets of one shape as ``[N, ...]`` float32, with heads drawn like PyTorch's by ``seeds``.

    The two biases of a cell that only adds them are one: trained as two they would learn twice as fast.
    """
    columns = [_parameters(layer, outputs, seed) for layer, seed in zip(layers, seeds, strict=True)]
    return {name: torch.stack([column[name] for column in columns]).float() for name in columns[0]}


def _parameters(layer: RecurrentLayer, outputs: int, seed: int) -> dict[str, Tensor]:
    zeros = torch.zeros(layer.weight_hh.shape[0], dtype=torch.float64)
    bias_ih = zeros if layer.bias_ih is None else layer.bias_ih.double()
    bias_hh = zeros if layer.bias_hh is None else layer.bias_hh.double()
    stream = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(layer.hidden_size)
    drawn = torch.empty(outputs, layer.hidden_size + 1, dtype=torch.float64).uniform_(-bound, bound, generator=stream)
    own = {"weight_ih": layer.weight_ih.double(), "weight_hh": layer.weight_hh.double()}
    own |= {"bias_ih": bias_ih, "bias_hh": bias_hh} if layer.cell == "gru" else {"bias_ih": bias_ih + bias_hh}
    return own | {"head": drawn[:, :-1], "head_bias": drawn[:, -1]}


def train(
    layers: Sequence[RecurrentLayer], task: Task, recipe: Recipe, seeds: Sequence[int], data_seed: int
) -> list[Outcome]:
    """Train nets of one cell and shape on the same batches; see the module."""
    last = LAST[layers[0].cell]
    p = stacked(layers, task.outputs, seeds)
    moments = [{k: torch.zeros_like(v) for k, v in p.items()} for _ in range(2)]
    outcomes = [Outcome(None, math.nan)] * len(layers)
    here = torch.arange(len(layers))
    held_x, held_y = task.held_out(data_seed)

    def outputs(x: Tensor) -> Tensor:
        return torch.baddbmm(p["head_bias"][:, None], last(p, x), p["head"].mT)

    for update, (x, y) in enumerate(task.batches(data_seed, recipe.batch), 1):
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
                here = here[left]
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
