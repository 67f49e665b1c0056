"""The law that a random net's weights were drawn from, as far as a mean field needs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rnndiag.random_nets import InitName, RandomNet
from rnndiag.theory.gaussian_moments import Nonlinearity


@dataclass(frozen=True, slots=True)
class Law:
    """Independent, centered weights of one layer, by their variances.

    An orthogonal ``W_hh`` has the mean field of independent entries of gain 1: both keep the mean square of a
    state and mix its units. Only its fluctuations differ (Chen, Pennington & Schoenholz 2018).
    """

    nonlinearity: Nonlinearity
    sigma: float
    """gain of ``W_hh``: its entries have variance ``sigma^2 / H``"""
    input_variance: float
    """of the entries of ``W_ih``"""
    bias_variance: float
    """of the sum of the two biases"""
    orthogonal: bool


def law_of(net: RandomNet, level: int) -> Law | str:
    """The law of the layer at depth ``level``, or one line that says why mean field does not apply."""
    if net.cell == "gru" or net.cell == "lstm":
        return f"no mean field for {net.cell} here: its gates correlate the states of successive steps"
    if net.init == "identity":
        return "W_hh = I does not mix the units: each one is a net of its own, and no mean over units closes"
    columns = net.input_size if level == 0 else net.hidden
    sigma, entries = _LAWS[net.init](net, columns)
    if net.bias_scale is not None:
        biases = net.bias_scale**2
    else:
        biases = 2 / (3 * net.hidden) if net.init == "pytorch" else 0.0
    return Law(net.cell, sigma, net.input_scale**2 * entries, biases, net.init == "orthogonal")


_LAWS: dict[InitName, Callable[[RandomNet, int], tuple[float, float]]] = {
    "gaussian": lambda net, columns: (1.0 if net.sigma is None else net.sigma, 1 / columns),
    "orthogonal": lambda net, columns: (1.0, 1 / columns),
    "xavier": lambda net, columns: (1.0, 2 / (net.hidden + columns)),
    "he": lambda net, columns: (math.sqrt(2), 2 / columns),
    "pytorch": lambda net, columns: (1 / math.sqrt(3), 1 / (3 * net.hidden)),
}
"""The gain of ``W_hh`` and the variance of an entry of ``W_ih`` before its scale, by init."""
