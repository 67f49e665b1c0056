"""What every cell gives: its hidden states, and the linearization along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.operators.base import BatchedOperator
from rnndiag.operators.wide import LN_2, safe_norm


@dataclass(frozen=True, slots=True, eq=False)
class Linearization:
    """A cell along one trajectory of ``T`` steps and ``B`` sequences.

    ``slopes`` and ``gates`` are ``[T, B, H]`` by name; the Jacobians have batch ``[T, B]``.
    """

    state_jacobian: BatchedOperator
    """``ds_t/ds_{t-1}`` with the input fixed: ``[S, S]``, ``s = h`` or ``(h, c)``"""
    input_jacobian: BatchedOperator
    """``ds_t/dx_t`` with the previous state fixed: ``[S, D]``"""
    slopes: dict[str, Tensor]
    """``phi'`` of each squashing nonlinearity that the gradient passes, gates not included"""
    gates: dict[str, Tensor]
    """Values in (0, 1) of the sigmoid gates; empty for Elman nets"""
    operand_log_norms: Tensor | None = None
    """Log norm of the vector that ``W_hh`` multiplies: ``[T, B, 1]``, or ``[T, B, G]`` if it differs between blocks;
    None without ``W_hh``"""
    cell_state: Tensor | None = None
    """What the state holds beside ``h``: ``[T, B, S-R]``, the LSTM's ``c``"""
    keeping_log: Tensor | None = None
    """``log`` of the gate that multiplies the previous state; exact where the gate itself rounds to 0 or 1"""

    def __getitem__(self, index: Any) -> Linearization:
        """The same at an index into the steps (a slice, or slices of steps and sequences with None between)."""
        return Linearization(
            self.state_jacobian[index],
            self.input_jacobian[index],
            {name: slope[index] for name, slope in self.slopes.items()},
            {name: gate[index] for name, gate in self.gates.items()},
            None if self.operand_log_norms is None else self.operand_log_norms[index],
            None if self.cell_state is None else self.cell_state[index],
            None if self.keeping_log is None else self.keeping_log[index],
        )


class Cell(Protocol):
    """One kind of recurrent cell."""

    def hidden_states(self, layer: RecurrentLayer, inputs: Tensor) -> Tensor:
        """``h_1 .. h_T`` from ``h_0 = 0``: ``[T, B, D] -> [T, B, R]``."""
        ...

    def linearize(
        self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, beside: Tensor | None = None
    ) -> Linearization:
        """Everything the measures need, from inputs ``[T, B, D]`` and ``[h_0 .. h_{T-1}]`` at once.

        ``beside`` is what the state holds beside ``h_0``, ``[B, S-R]``; None for zero, or nothing.
        """
        ...


@runtime_checkable
class CellWithCellState(Cell, Protocol):
    """A cell whose state is ``(h, c)``."""

    def cell_states(self, layer: RecurrentLayer, inputs: Tensor, previous: Tensor, before: Tensor) -> Tensor:
        """``c`` at each step ``[T, B, H]``, from ``previous`` (``h`` one step earlier) and ``before`` (``c_0``)."""
        ...


STEPS_AT_ONCE = 1 << 14
"""PyTorch's kernel keeps a tensor for each step until the last: the headers of a million alone are a gigabyte."""


def fused_states(kernel: Callable[[RecurrentLayer], nn.RNNBase], layer: RecurrentLayer, inputs: Tensor) -> Tensor:
    """``h_1 .. h_T`` by PyTorch's own fused kernel, given as a module of the layer's kind and shape.

    They carry a graph for autograd just where a parameter asks for its gradient.
    """
    with torch.device("meta"):
        module = kernel(layer)
    if any(parameter.requires_grad for parameter in layer.parameters.values()):
        named = {f"{name}_l0": parameter for name, parameter in layer.parameters.items()}
        tracked: Tensor = torch.func.functional_call(module, named, (inputs,))[0]
        return tracked
    for name, parameter in layer.parameters.items():
        setattr(module, f"{name}_l0", nn.Parameter(parameter, requires_grad=False))
    states, last = inputs.new_empty(*inputs.shape[:2], layer.output_size), None
    with torch.no_grad():
        for driven, place in zip(inputs.split(STEPS_AT_ONCE), states.split(STEPS_AT_ONCE), strict=True):
            outputs, last = module(driven, last)
            place.copy_(outputs)
    return states


SQUARED = {torch.float64: (1e-140, 1e150), torch.float32: (1e-15, 1e18)}
"""The squares of all important entries keep their digits while the norm is between these limits."""


def log_norms(vectors: Tensor) -> Tensor:
    """Natural logarithms of ``||v||``, even if its square leaves the range: ``[T, B, n] -> [T, B, 1]``."""
    plain: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    low, high = SQUARED[vectors.dtype]
    if not bool(vectors[((plain < low) | (plain > high))[..., 0]].any()):  # zero vectors are right as they are
        return plain.log()
    length, exponent = safe_norm(vectors, keepdim=True)
    return length.log() + exponent * LN_2


def preactivation(layer: RecurrentLayer, inputs: Tensor, previous: Tensor) -> Tensor:
    """``W_ih x + b_ih + W_hh h + b_hh``: ``[T, B, G*H]``, two GEMMs for all steps."""
    total = inputs @ layer.weight_ih.T
    total += previous @ layer.weight_hh.T
    for bias in (layer.bias_ih, layer.bias_hh):
        if bias is not None:
            total += bias
    return total


def sech_squared(a: Tensor) -> Tensor:
    """``tanh'(a)`` from the preactivation, to full relative accuracy however deep the saturation.

    ``1 - tanh(a)^2`` is exactly 0 from ``|a| = 9.5`` on in float32 and from 19.1 on in float64; this is so only
    where the slope itself underflows, from 52 and 373 on.
    """
    decay = a.abs().mul_(-2).exp_()
    below = (1 + decay).square_()
    return decay.mul_(4).div_(below)


def sigmoid_slope(a: Tensor) -> Tensor:
    """``sigmoid'(a) = sigmoid(a) sigmoid(-a)``, without the cancellation of ``s (1 - s)``."""
    return a.sigmoid() * (-a).sigmoid()
