"""Lyapunov exponents of singular steps, and their standard errors."""

from __future__ import annotations

import math

import torch

from rnndiag.cells.layer import RecurrentLayer
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.lyapunov import lyapunov
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.seeds import generator
from rnndiag.trajectory import run_layer


def test_annihilated_directions_do_not_come_back_as_noise() -> None:
    """A single step of rank one leaves a product of rank one: two exponents are minus infinity."""
    weight = torch.tensor([[1, 0.5, 0], [0.5, 1, 0.3], [0.2, 0.1, 0.9]]).double()
    net = RecurrentLayer("r", "relu", torch.eye(3).double(), weight)
    inputs = torch.ones(50, 1, 3).double()
    inputs[20] = torch.tensor([1, -1e6, -1e6])
    jacobian = run_layer(net, inputs).along.state_jacobian
    assert int(torch.linalg.matrix_rank(jacobian[20, 0].to_dense())) == 1
    measured = lyapunov(jacobian, inputs, "all", 50, -3.0, generator=generator(0, "test"))
    assert measured.exponents[0] > 0
    assert measured.exponents[1:] == (-math.inf, -math.inf)
    assert measured.live_directions == 1


def test_standard_error_is_no_smaller_than_the_spread_says() -> None:
    net = RandomNet("lstm", hidden=16, input_size=4, init="pytorch", forget_bias=3.0).build()
    measured = diagnose(net, Probe(length=100, batch=16), Settings(treat=False)).layers[0].lyapunov
    assert measured is not None
    for error, spread in zip(measured.standard_errors, measured.spread, strict=True):
        assert error >= spread / 4 * (1 - 1e-9)
