"""The functions of gates and candidates: value, slope and logarithm, in plain numbers and with separate exponents.

``sigmoid'`` and ``tanh'`` come from the preactivation, so that deep saturation is small, not zero. The slope of
``hard_sigmoid`` is exactly zero outside its linear part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn.functional import logsigmoid

from rnndiag.cells.cell import sech_squared, sigmoid_slope
from rnndiag.cells.wide_range import wide_sech_squared, wide_sigmoid, wide_sigmoid_slope
from rnndiag.operators.wide import Wide


class Squashing(ABC):
    """An elementwise function with the derivative that is used of it."""

    smooth: bool
    """Whether the slope decays exponentially where the function saturates, instead of being exactly zero there."""

    def saturating(self, *preactivations: Tensor) -> tuple[Tensor, ...]:
        """The preactivations whose slopes may need separate exponents: all of them, or none."""
        return preactivations if self.smooth else ()

    @abstractmethod
    def value(self, a: Tensor) -> Tensor:
        """``phi(a)``."""

    @abstractmethod
    def slope(self, a: Tensor) -> Tensor:
        """``phi'(a)``."""

    @abstractmethod
    def wide_slope(self, a: Tensor) -> Wide:
        """``phi'(a)``, however small."""


class Gate(Squashing):
    """A function from 0 to 1 with ``1 - phi(a) = phi(-a)``."""

    @abstractmethod
    def log(self, a: Tensor) -> Tensor:
        """``log phi(a)``, exact where the value rounds to 0 or 1."""

    @abstractmethod
    def preactivation(self, log_odds: Tensor) -> Tensor:
        """The preactivation at which ``phi / (1 - phi)`` has this logarithm."""

    @abstractmethod
    def wide_value(self, a: Tensor) -> Wide:
        """``phi(a)``, however small."""


class Sigmoid(Gate):
    """``1 / (1 + exp(-a))``."""

    smooth = True

    def value(self, a: Tensor) -> Tensor:
        return a.sigmoid()

    def slope(self, a: Tensor) -> Tensor:
        return sigmoid_slope(a)

    def log(self, a: Tensor) -> Tensor:
        return logsigmoid(a)

    def preactivation(self, log_odds: Tensor) -> Tensor:
        return log_odds

    def wide_value(self, a: Tensor) -> Wide:
        return wide_sigmoid(a)

    def wide_slope(self, a: Tensor) -> Wide:
        return wide_sigmoid_slope(a)


@dataclass(frozen=True)
class HardSigmoid(Gate):
    """``clip(a / width + 1/2, 0, 1)``. At the two corners the slope is 0, as in PyTorch."""

    width: float
    smooth = False

    def value(self, a: Tensor) -> Tensor:
        return (a / self.width + 0.5).clamp(0, 1)

    def slope(self, a: Tensor) -> Tensor:
        return (a.abs() < self.width / 2).to(a.dtype) / self.width

    def log(self, a: Tensor) -> Tensor:
        return self.value(a).log()

    def preactivation(self, log_odds: Tensor) -> Tensor:
        return (log_odds.sigmoid() - 0.5) * self.width

    def wide_value(self, a: Tensor) -> Wide:
        return Wide.of(self.value(a))

    def wide_slope(self, a: Tensor) -> Wide:
        return Wide.of(self.slope(a))


class Tanh(Squashing):
    """``tanh``."""

    smooth = True

    def value(self, a: Tensor) -> Tensor:
        return a.tanh()

    def slope(self, a: Tensor) -> Tensor:
        return sech_squared(a)

    def wide_slope(self, a: Tensor) -> Wide:
        return wide_sech_squared(a)


class ReLU(Squashing):
    """``max(a, 0)``, with slope 0 at 0, as in PyTorch."""

    smooth = False

    def value(self, a: Tensor) -> Tensor:
        return a.relu()

    def slope(self, a: Tensor) -> Tensor:
        return (a > 0).to(a.dtype)

    def wide_slope(self, a: Tensor) -> Wide:
        return Wide.of(self.slope(a))


GATES: Final[dict[str, Gate]] = {
    "sigmoid": Sigmoid(),
    "hard_sigmoid": HardSigmoid(6.0),
    "hard_sigmoid_fifth": HardSigmoid(5.0),
}
"""The functions of gates by ``Form.gate``."""

ACTIVATIONS: Final[dict[str, Squashing]] = {"tanh": Tanh(), "relu": ReLU()}
"""The functions of candidates and outputs by ``Form.activation``."""
