"""A recurrent layer as plain tensors, whatever file it came from, and the stack it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from rnndiag.kinds import KINDS, PYTORCH_FORM, Form, Kind

Direction = Literal["forward", "reverse"]

Layout = Literal["BTD", "TBD"]
"""The order of the axes of an array of several sequences: ``[B, T, D]`` or ``[T, B, D]``."""


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentLayer:
    """The parameters of one layer in one direction, in PyTorch's layout.

    Axes: ``D`` inputs, ``H`` hidden units, ``P`` projected units, ``G`` gate blocks; the recurrent
    input has width ``R = P`` where the layer projects its output and ``R = H`` otherwise.
    """

    name: str
    """The module's own path in the model, e.g. ``encoder.rnn.l0`` or ``encoder.rnn.l0.reverse``."""
    cell: str
    """The name of the kind, one of ``KINDS``."""
    weight_ih: Tensor
    """``[G*H, D]``"""
    weight_hh: Tensor
    """``[G*H, R]``"""
    bias_ih: Tensor | None = None
    """``[G*H]``"""
    bias_hh: Tensor | None = None
    """``[G*H]``; separate from ``bias_ih`` because the GRU's reset gate multiplies only this one."""
    weight_hr: Tensor | None = None
    """``[P, H]``, the LSTM's output projection"""
    direction: Direction = "forward"
    nonlinearity_assumed: bool = False
    """True where the file did not say tanh or relu and tanh was taken."""
    reset_after: bool = True
    """GRU: whether the reset gate multiplies ``W_hn h- + b_hn``, as in PyTorch, or ``h-`` itself (Cho et al. 2014)."""
    form: Form = PYTORCH_FORM
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Parameters that PyTorch's cells do not have, such as peephole weights, by the names in the file of the cell."""

    @property
    def kind(self) -> Kind:
        """What is known of all layers of this kind."""
        return KINDS[self.cell]

    @property
    def input_size(self) -> int:
        """``D``."""
        return int(self.weight_ih.shape[1])

    @property
    def hidden_size(self) -> int:
        """``H``."""
        return int(self.weight_hh.shape[0]) // len(self.gates)

    @property
    def proj_size(self) -> int:
        """``P``, or 0 without projection (PyTorch's convention)."""
        return 0 if self.weight_hr is None else int(self.weight_hr.shape[0])

    @property
    def output_size(self) -> int:
        """``R``: the width of ``h``, which feeds both the next step and the layer above."""
        return int(self.weight_hh.shape[1])

    @property
    def state_size(self) -> int:
        """``S``: ``h``, and an LSTM's ``c``."""
        return self.output_size + (self.hidden_size if self.kind.has_cell_state else 0)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters that exist, by PyTorch's names without the layer suffix, then the extra ones."""
        named = {
            "weight_ih": self.weight_ih,
            "weight_hh": self.weight_hh,
            "bias_ih": self.bias_ih,
            "bias_hh": self.bias_hh,
            "weight_hr": self.weight_hr,
        }
        return {name: value for name, value in named.items() if value is not None} | dict(self.extra)

    @property
    def gate_biases(self) -> tuple[str, ...]:
        """The names of the parameters that are added to the preactivations of the gates as they are.

        A bias before a norm is not one of them, and the norm's own bias is.
        """
        if self.form.normalizes("sum"):
            names = ["norm_sum_bias"]
        else:
            names = [
                "norm_input_bias" if self.form.normalizes("input") else "bias_ih",
                "norm_recurrent_bias" if self.form.normalizes("recurrent") else "bias_hh",
            ]
        return tuple(name for name in names if name in self.parameters)

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of the gate blocks, in the order of their rows."""
        return self.kind.family.gates

    def blocks(self, parameter: Tensor) -> dict[str, Tensor]:
        """Split ``weight_ih``, ``weight_hh`` or a bias into its gate blocks, by gate name."""
        return dict(zip(self.gates, parameter.split(self.hidden_size, dim=0), strict=True))

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> RecurrentLayer:
        """The same layer in another precision or on another device."""
        return self.with_parameters({name: p.detach().to(device, dtype) for name, p in self.parameters.items()})

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> RecurrentLayer:
        """The same layer with other values of some parameters, which are named as in ``parameters``."""
        own = {name: value for name, value in parameters.items() if name not in self.extra}
        extra = {name: parameters.get(name, value) for name, value in self.extra.items()}
        return replace(self, extra=extra, **own)  # type: ignore[arg-type]  # the keys are field names


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Layers that feed one another: one recurrent module of a model.

    ``levels[i]`` holds the layer (forward) or the two layers (forward, reverse) at depth ``i``; the
    concatenated outputs of a level are the inputs of the next.
    """

    name: str
    levels: tuple[tuple[RecurrentLayer, ...], ...]
    embedding: Tensor | None = None
    """``[V, D]``: the table of the same model whose rows this stack reads, where there is one."""
    assumed_class: str = ""
    """The class of the module that the file names, where it is not PyTorch's and its code was not run: which cell it is
    was assumed from its parameters. Empty: the cell is known."""

    @property
    def layers(self) -> tuple[RecurrentLayer, ...]:
        """All layers, bottom up, forward before reverse."""
        return tuple(layer for level in self.levels for layer in level)

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Stack:
        """The same stack with its layers in another dtype or on another device."""
        levels = tuple(tuple(layer.to(dtype, device) for layer in level) for level in self.levels)
        return replace(self, levels=levels)

    @property
    def input_size(self) -> int:
        """``D`` of the lowest level."""
        return self.levels[0][0].input_size
