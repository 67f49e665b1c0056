"""Layer normalization inside a cell: of the input part, of the recurrent part, of their sum, or of the cell state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.kinds import Norm


@dataclass(frozen=True, slots=True, eq=False)
class Normalized:
    """``gamma u^ + beta``, and what its derivative ``diag(gamma / sigma) P`` consists of."""

    value: Tensor
    """``gamma u^ + beta``"""
    direction: Tensor
    """``u^``"""
    gain: Tensor
    """``gamma / sigma``"""
    groups: int
    """The number of groups of entries that have a mean and a variance of their own."""


def norm_of(layer: RecurrentLayer, of: str) -> Norm | None:
    """The norm of one quantity; None: that quantity is not normalized."""
    return next((norm for norm in layer.form.norms if norm.of == of), None)


def normed_value(layer: RecurrentLayer, of: str, vectors: Tensor) -> Tensor:
    """The vectors ``[..., n]`` after the norm of ``of``, or as they are where the cell has none."""
    norm = norm_of(layer, of)
    if norm is None:
        return vectors
    parts = vectors.unflatten(-1, (_groups(layer, norm), -1))
    value = torch.nn.functional.layer_norm(parts, parts.shape[-1:], eps=norm.eps).flatten(-2)
    gamma, beta = _affine(layer, of)
    value = value if gamma is None else value * gamma
    return value if beta is None else value + beta


def normalized(layer: RecurrentLayer, of: str, vectors: Tensor) -> Normalized | None:
    """The same with the parts of its derivative; None where the cell has no such norm."""
    norm = norm_of(layer, of)
    if norm is None:
        return None
    groups = _groups(layer, norm)
    parts = vectors.unflatten(-1, (groups, -1))
    apart = parts - parts.mean(-1, keepdim=True)
    per_sigma = (apart.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    direction = (apart * per_sigma).flatten(-2)
    gain = per_sigma.expand_as(apart).flatten(-2)
    gamma, beta = _affine(layer, of)
    value = direction
    if gamma is not None:
        value, gain = value * gamma, gain * gamma
    return Normalized(value if beta is None else value + beta, direction, gain, groups)


def _groups(layer: RecurrentLayer, norm: Norm) -> int:
    return len(layer.gates) if norm.per_gate and norm.of != "cell" else 1


def _affine(layer: RecurrentLayer, of: str) -> tuple[Tensor | None, Tensor | None]:
    return layer.extra.get(f"norm_{of}_weight"), layer.extra.get(f"norm_{of}_bias")


def parts(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """``W_ih x + b_ih`` and ``W_hh h- + b_hh``, before any norm."""
    from_input = inputs @ layer.weight_ih.T
    from_state = previous @ layer.weight_hh.T
    if layer.bias_ih is not None:
        from_input += layer.bias_ih
    if layer.bias_hh is not None:
        from_state += layer.bias_hh
    return from_input, from_state


def normed_parts(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """The same after their norms. Where the sum is normalized, the first part is zero and the second is the sum."""
    from_input, from_state = parts(layer, inputs, previous)
    if norm_of(layer, "sum") is not None:
        return torch.zeros_like(from_input), normed_value(layer, "sum", from_input + from_state)
    return normed_value(layer, "input", from_input), normed_value(layer, "recurrent", from_state)


@dataclass(frozen=True, slots=True, eq=False)
class Preactivations:
    """What reaches the gates and the candidate: the sum of both parts is the preactivation."""

    from_input: Tensor
    from_state: Tensor
    """The whole preactivation where the sum is normalized; ``from_input`` is then zero."""
    by_input: Normalized | None
    """The norm that ``W_ih x`` passes."""
    by_state: Normalized | None
    """The norm that ``W_hh h-`` passes."""


def preactivations(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> Preactivations:
    """Both parts ``[..., G*H]`` after their norms."""
    from_input, from_state = parts(layer, inputs, previous)
    joint = normalized(layer, "sum", from_input + from_state)
    if joint is not None:
        return Preactivations(torch.zeros_like(from_input), joint.value, joint, joint)
    by_input, by_state = normalized(layer, "input", from_input), normalized(layer, "recurrent", from_state)
    return Preactivations(
        from_input if by_input is None else by_input.value,
        from_state if by_state is None else by_state.value,
        by_input,
        by_state,
    )
