"""Saturated gates and dead units in limiting cases."""

from __future__ import annotations

import math

from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet


def test_a_gate_that_is_wide_open_keeps_for_ever() -> None:
    net = RandomNet("lstm", hidden=8, input_size=2, forget_bias=60.0).build()
    gate = diagnose(net, Probe(length=10, batch=2), Settings(dtype="float32", treat=False)).layers[0].gates["forget"]
    assert gate.time_constant is not None
    assert (
        math.exp(58) < gate.time_constant < math.exp(62)
    )  # -1 / log sigmoid(a) at about a = 60, where sigmoid(a) is 1


def test_units_are_dead_only_beside_live_ones() -> None:
    at_rest = diagnose(RandomNet("relu", hidden=9).build(), Probe("zeros", length=20, batch=1)).layers[0]
    small = diagnose(RandomNet(init="orthogonal", hidden=9).build(), Probe(length=20, scale=1e-12)).layers[0]
    for each in (at_rest, small):
        assert each.saturation is not None
        assert each.saturation.dead_units == 0
