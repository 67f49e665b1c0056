"""Norms of the parameters' gradient over probe batches: what gradient clipping would see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnndiag.cells import cell_of
from rnndiag.cells.layer import RecurrentLayer, Stack

LOWER = 0.9
"""The share of the norms, from the smallest on, over which the threshold is the mean."""


@dataclass(frozen=True, slots=True)
class UpdateNorms:
    """``||g||`` over updates, for a loss whose gradient at the last ``h`` of a sequence has norm 1."""

    norms: tuple[float, ...]
    """ascending"""
    threshold: float
    """``c``: the mean of the lower nine tenths of the norms of updates that do not explode"""
    share_over: float
    """of the updates that clipping at ``c`` would shorten"""
    median: float
    upper: float
    """95th percentile"""

    @property
    def tail(self) -> float:
        """The 95th percentile over the median: 1 for updates all alike."""
        return self.upper / self.median if self.median else 1.0


def update_norms(stack: Stack, batches: Iterable[Tensor], *, generator: torch.Generator) -> list[float]:
    """``||g||`` of all recurrent parameters of a stack, one update a batch.

    The loss of a batch is a random linear readout ``sum_b u_b . h_T,b / B`` of the top level, each ``u_b`` a random
    unit vector.

    Args:
        stack: finite, in the precision of the measurement.
        batches: inputs ``[T, B, D]``, at least one.
        generator: for the readouts.
    """
    leaves = [{n: p.detach().clone().requires_grad_() for n, p in la.parameters.items()} for la in stack.layers]
    tracked = iter(replace(la, **named) for la, named in zip(stack.layers, leaves, strict=True))  # type: ignore[arg-type]
    levels = [[next(tracked) for _ in level] for level in stack.levels]
    parameters = [parameter for named in leaves for parameter in named.values()]
    found = []
    for inputs in batches:
        with torch.enable_grad():
            last = _last_states(levels, inputs)
            readout = torch.randn(last.shape, dtype=torch.float64, generator=generator).to(last)
            readout /= torch.linalg.vector_norm(readout, dim=-1, keepdim=True)
            gradients = torch.autograd.grad((last * readout).sum() / len(last), parameters, allow_unused=True)
        each = torch.stack([torch.linalg.vector_norm(g) for g in gradients if g is not None])
        found.append(float(torch.linalg.vector_norm(each)))
    return found


def summarise(found: Sequence[float], tame: Sequence[float]) -> UpdateNorms:
    """What clipping would see.

    ``c`` is the mean norm of the updates, the rule of thumb of Pascanu, Mikolov & Bengio (2013, section 3.2), but of
    those that backpropagate no further than the gain stays healthy, and of the lower nine tenths of them: neither the
    explosion nor the tail that is to be cut may set it. A loss of another size scales ``c`` with it.

    Args:
        found: ``||g||`` of updates over whole sequences.
        tame: of updates over sequences short enough not to explode; the same where none does.
    """
    norms = torch.tensor(sorted(found), dtype=torch.float64)
    lower = torch.tensor(sorted(tame), dtype=torch.float64)[: max(1, round(LOWER * len(tame)))]
    threshold = float(lower.mean())
    return UpdateNorms(
        norms=tuple(norms.tolist()),
        threshold=threshold,
        share_over=float((norms > threshold).double().mean()),
        median=float(norms.quantile(0.5, interpolation="lower")),
        upper=float(norms.quantile(0.95, interpolation="lower")),
    )


def _last_states(levels: list[list[RecurrentLayer]], inputs: Tensor) -> Tensor:
    """The last states of the top level in each direction's own time: ``[B, R]``, both directions side by side."""
    outputs: list[Tensor] = []
    for level in levels:
        outputs = [cell_of(la).hidden_states(la, inputs.flip(0) if _reverse(la) else inputs) for la in level]
        inputs = torch.cat([o.flip(0) if _reverse(la) else o for o, la in zip(outputs, level, strict=True)], dim=-1)
    return torch.cat([output[-1] for output in outputs], dim=-1)


def _reverse(layer: RecurrentLayer) -> bool:
    return layer.direction == "reverse"
