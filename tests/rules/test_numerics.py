"""Weights and embeddings that are not finite."""

from __future__ import annotations

import math

import torch

from rnndiag.cells.layer import Stack
from tests.builders.diagnosed import diagnosed
from tests.oracles.nets import layer, stack


def test_a_broken_layer_does_not_get_its_neighbours_accused() -> None:
    nets = stack("tanh", 3)
    nets.layers[0].weight_hh[0, 0] = math.nan
    measured = diagnosed(nets)
    assert {(f.rule, f.layer) for f in measured.findings} == {("NUM001", "rnn.l0")}
    assert {n.reason for n in measured.not_assessed if n.rule == "NUM002" and n.layer != "rnn.l0"} == {
        "its inputs are not finite"
    }
    assert "rnn.l0 holds weights that are NaN" in measured.summary


def test_a_broken_embedding_is_no_healthy_model() -> None:
    net = layer("gru", 3, 8)
    table = torch.ones(5, 3)
    table[2, 1] = math.nan
    measured = diagnosed(Stack("rnn", ((net,),), table))
    assert measured.verdict == "invalid"
    assert measured.layers[0].numerics.nonfinite_parameters == {"embedding": 1}
    assert "embedding" in measured.summary
