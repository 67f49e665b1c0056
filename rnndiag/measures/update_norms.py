"""Updates of gradient descent on a stack: the norms that gradient clipping sees, and the losses that follow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells import cell_of
from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.kinds import CONSTANT

LOWER = 0.9
"""The share of the norms, from the smallest on, whose mean is the typical norm."""


@dataclass(frozen=True, slots=True)
class UpdateNorms:
    """``||g||`` over updates, for the loss of ``Learner``."""

    norms: tuple[float, ...]
    """ascending"""

    @property
    def typical(self) -> float:
        """The mean of the lower nine tenths of the norms: a few large updates do not set it."""
        lower = self.norms[: max(1, round(LOWER * len(self.norms)))]
        return sum(lower) / len(lower)

    @property
    def median(self) -> float:
        """The median norm."""
        return self._quantile(0.5)

    @property
    def upper(self) -> float:
        """The 95th percentile."""
        return self._quantile(0.95)

    @property
    def tail(self) -> float:
        """The 95th percentile over the median: 1 if all updates have the same norm."""
        return self.upper / self.median if 0 < self.median < math.inf else 1.0

    def share_over(self, threshold: float) -> float:
        """The share of the updates that clipping at a threshold would shorten."""
        return sum(not norm <= threshold for norm in self.norms) / len(self.norms)

    def _quantile(self, share: float) -> float:
        return self.norms[math.floor(share * (len(self.norms) - 1))]


class Learner:
    """A copy of a stack with a linear readout, and the loss that it descends.

    The loss of a batch is the mean squared error of one linear readout of the last state of the top level, against
    targets that are drawn from N(0, 1) for each sequence. The readout is drawn as PyTorch's ``nn.Linear`` draws it:
    weights and bias from ``U(+-1/sqrt R)``, ``R`` the width of the last state. Targets of unit variance and a fresh
    readout give the loss and the gradient the size that they have at the start of an ordinary regression.

    Args:
        stack: a stack of finite weights, in the precision of the measurement.
        generator: draws the readout, then the targets of each batch.
    """

    def __init__(self, stack: Stack, generator: torch.Generator) -> None:
        leaves = [
            {n: p.detach().clone().requires_grad_() for n, p in la.parameters.items() if n not in CONSTANT}
            for la in stack.layers
        ]
        tracked = iter(la.with_parameters(named) for la, named in zip(stack.layers, leaves, strict=True))
        self._levels = [[next(tracked) for _ in level] for level in stack.levels]
        width = sum(layer.output_size for layer in stack.levels[-1])
        bound = 1 / math.sqrt(width)
        drawn = torch.empty(width + 1, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
        self._readout = drawn.to(stack.layers[0].weight_hh).requires_grad_()
        self._generator = generator
        self.parameters = [*(parameter for named in leaves for parameter in named.values()), self._readout]

    def gradient(self, inputs: Tensor) -> tuple[float, float, list[Tensor | None]]:
        """The loss on inputs ``[T, B, D]``, the norm of its gradient, and the gradient of each parameter."""
        with torch.enable_grad():
            answers = _last_states(self._levels, inputs) @ self._readout[:-1] + self._readout[-1]
            targets = torch.randn(len(answers), dtype=torch.float64, generator=self._generator).to(answers)
            loss = (answers - targets).square().mean()
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        each = torch.stack([torch.linalg.vector_norm(g) for g in gradients if g is not None])
        return float(loss.detach()), float(torch.linalg.vector_norm(each)), list(gradients)

    def descend(
        self, batches: Iterable[Tensor], rate: float, clip: float = math.inf, *, stop: float = math.inf
    ) -> list[float]:
        """The loss before each update of plain gradient descent, up to the first that is not finite.

        Args:
            batches: inputs ``[T, B, D]`` of each update.
            rate: the learning rate.
            clip: the largest norm of a gradient; a longer one is shortened to it.
            stop: the multiple of the first loss at which the descent ends early.
        """
        losses = []
        for inputs in batches:
            loss, norm, gradients = self.gradient(inputs)
            losses.append(loss)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return [*losses, math.inf]
            if loss >= stop * losses[0]:
                return losses
            with torch.no_grad():
                for parameter, gradient in zip(self.parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter -= rate * min(1.0, clip / norm if norm else 1.0) * gradient
        return losses


def update_norms(stack: Stack, batches: Iterable[Tensor], *, generator: torch.Generator) -> UpdateNorms:
    """``||g||`` of the parameters of a stack and of a readout, one update per batch; no update is made.

    Args:
        stack: a stack of finite weights, in the precision of the measurement.
        batches: inputs ``[T, B, D]``, at least one.
        generator: the generator of the ``Learner``.
    """
    learner = Learner(stack, generator)
    norms = (learner.gradient(inputs)[1] for inputs in batches)
    return UpdateNorms(tuple(sorted(math.inf if math.isnan(norm) else norm for norm in norms)))


def mean_loss(losses: Sequence[float]) -> float:
    """The mean over several updates; infinite if one of the losses is not finite."""
    mean = sum(losses) / len(losses)
    return mean if math.isfinite(mean) else math.inf


def _last_states(levels: list[list[RecurrentLayer]], inputs: Tensor) -> Tensor:
    """The last states of the top level in each direction's own time: ``[B, R]``, both directions side by side."""
    outputs: list[Tensor] = []
    for level in levels:
        outputs = [cell_of(la).hidden_states(la, inputs.flip(0) if _reverse(la) else inputs) for la in level]
        inputs = torch.cat([o.flip(0) if _reverse(la) else o for o, la in zip(outputs, level, strict=True)], dim=-1)
    return torch.cat([output[-1] for output in outputs], dim=-1)


def _reverse(layer: RecurrentLayer) -> bool:
    return layer.direction == "reverse"
