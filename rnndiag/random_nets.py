"""Random nets: what a training run would start from, or theory speaks about."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.errors import SettingsError
from rnndiag.kinds import KINDS
from rnndiag.seeds import generator

CellName = Literal["tanh", "relu", "gru", "lstm"]
InitName = Literal["gaussian", "xavier", "he", "orthogonal", "identity", "pytorch"]

LARGEST_SIGMA = 1e100
"""Its square must not overflow."""

LARGEST_SCALE = 1e100
"""The same holds for the scales of input weights and biases."""

MAX_PARAMETERS = 1 << 28
"""2 GB of float64 weights: refused beyond, before anything is allocated."""


@dataclass(frozen=True, slots=True)
class RandomNet:
    """A stack of one kind of cell with independently drawn weights.

    ``init`` draws each gate block of ``W_hh``: ``gaussian`` is ``N(0, sigma^2/H)``; ``xavier`` (uniform),
    ``he`` (normal), ``orthogonal`` and ``identity`` are the usual ones; ``pytorch`` draws every parameter,
    biases too, from ``U(+-1/sqrt H)``. ``W_ih`` follows the same law for ``xavier``, ``he`` and ``pytorch`` and
    is ``N(0, 1/D)`` otherwise, times ``input_scale``: inputs of unit variance then give preactivations
    a variance of ``input_scale^2``. Biases are ``N(0, bias_scale^2)``, their sum in ``bias_ih``.
    """

    cell: CellName = "tanh"
    hidden: int = 128
    input_size: int = 16
    layers: int = 1
    init: InitName = "gaussian"
    sigma: float | None = None
    """gain of the gaussian init; None: 1"""
    input_scale: float = 1.0
    bias_scale: float | None = None
    """None: 0, or PyTorch's own biases for its init"""
    forget_bias: float = 0.0
    """added to the LSTM's forget biases"""
    seed: int = 0

    def __post_init__(self) -> None:
        for option, given, known in (("cell", self.cell, get_args(CellName)), ("init", self.init, get_args(InitName))):
            if given not in known:
                raise SettingsError(f"--{option}: expected one of {', '.join(known)}, got {given!r}")
        for option, count in (
            ("hidden", self.hidden),
            ("input-size", self.input_size),
            ("layers", self.layers),
        ):
            if count < 1:
                raise SettingsError(f"--{option}: expected at least 1, got {count}")
        if self.sigma is not None and not 0 < self.sigma <= LARGEST_SIGMA:
            limit = "" if not self.sigma > LARGEST_SIGMA else f" and at most {LARGEST_SIGMA:g}"
            raise SettingsError(f"--sigma: expected a number above 0{limit}, got {self.sigma}")
        if self.sigma is not None and self.init != "gaussian":
            raise SettingsError(f"--sigma scales the gaussian init, but --init is {self.init}; drop one of the two")
        for option, scale in (("input-scale", self.input_scale), ("bias-scale", self.bias_scale or 0.0)):
            if not 0 <= scale <= LARGEST_SCALE:
                limit = f" and at most {LARGEST_SCALE:g}" if scale > LARGEST_SCALE else ""
                raise SettingsError(f"--{option}: expected a number of at least 0{limit}, got {scale}")
        if not math.isfinite(self.forget_bias):
            raise SettingsError(f"--forget-bias: expected a finite number, got {self.forget_bias}")
        if self.forget_bias and self.cell != "lstm":
            raise SettingsError(f"--forget-bias is for --cell lstm, got --cell {self.cell}")
        parameters = self.layers * len(KINDS[self.cell].family.gates) * self.hidden * (self.hidden + self.input_size)
        if parameters > MAX_PARAMETERS:
            raise SettingsError(
                f"--hidden {self.hidden}: the weights alone would take {8 * parameters / 2**30:.0f} GiB; "
                f"expected at most {8 * MAX_PARAMETERS / 2**30:.0f} GiB"
            )

    def build(self) -> Model:
        """Draw the weights (float64, on the CPU; the same for the same seed)."""
        stream = generator(self.seed, "weights")
        levels = []
        for index in range(self.layers):
            width = self.input_size if index == 0 else self.hidden
            levels.append((self._layer(f"rnn.l{index}", width, stream),))
        described = f"random {self.cell}, H={self.hidden}, {self.init}"
        if self.init == "gaussian":
            described += f" sigma={self._gain:g}"
        return Model(Source(described, "random"), (Stack("rnn", tuple(levels)),))

    @property
    def _gain(self) -> float:
        return 1.0 if self.sigma is None else self.sigma

    def _layer(self, name: str, width: int, stream: torch.Generator) -> RecurrentLayer:
        blocks = range(len(KINDS[self.cell].family.gates))
        weight_hh = torch.cat([self._recurrent(stream) for _ in blocks])
        weight_ih = torch.cat([self._input(width, stream) for _ in blocks]) * self.input_scale
        bias_ih = torch.zeros(weight_hh.shape[0], dtype=torch.float64)
        bias_hh = torch.zeros_like(bias_ih)
        if self.bias_scale is not None:
            bias_ih.normal_(0, self.bias_scale, generator=stream)
        elif self.init == "pytorch":
            _uniform(bias_ih, self.hidden, stream)
            _uniform(bias_hh, self.hidden, stream)
        if self.cell == "lstm":
            bias_ih[self.hidden : 2 * self.hidden] += self.forget_bias
        return RecurrentLayer(name, self.cell, weight_ih, weight_hh, bias_ih, bias_hh)

    def _recurrent(self, stream: torch.Generator) -> Tensor:
        weight = torch.empty(self.hidden, self.hidden, dtype=torch.float64)
        if self.init == "gaussian":
            return weight.normal_(0, self._gain / math.sqrt(self.hidden), generator=stream)
        return _SQUARE[self.init](weight, stream)

    def _input(self, width: int, stream: torch.Generator) -> Tensor:
        weight = torch.empty(self.hidden, width, dtype=torch.float64)
        if self.init in ("gaussian", "orthogonal", "identity"):
            return weight.normal_(0, 1 / math.sqrt(width), generator=stream)
        return _SQUARE[self.init](weight, stream)


def checkpoint(net: RandomNet) -> dict[str, Any]:
    """What ``torch.save`` should write: PyTorch's names for the parameters, and how they were drawn."""
    state_dict = {
        f"{stack.name}.{name}_l{level}": parameter
        for stack in net.build().stacks
        for level, (layer,) in enumerate(stack.levels)
        for name, parameter in layer.parameters.items()
    }
    drawn = asdict(net)
    if net.cell in ("tanh", "relu"):
        drawn["nonlinearity"] = net.cell  # a state_dict has no place for it
    return {"state_dict": state_dict, "hyper_parameters": drawn}


def _uniform(parameter: Tensor, hidden: int, stream: torch.Generator) -> Tensor:
    bound = 1 / math.sqrt(hidden)
    return parameter.uniform_(-bound, bound, generator=stream)


_SQUARE: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "xavier": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "he": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
    "identity": lambda w, g: nn.init.eye_(w),
    "pytorch": lambda w, g: _uniform(w, w.shape[0], g),
}
"""Laws of one weight matrix ``[H, n]``; ``H`` is its number of rows."""
