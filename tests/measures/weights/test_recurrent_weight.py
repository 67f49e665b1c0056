"""The recurrent weight matrix on its own."""

from __future__ import annotations

import pytest

from rnndiag.cells.layer import Stack
from tests.builders.diagnosed import diagnosed
from tests.oracles.nets import layer


def test_huge_weights_keep_their_nonnormality() -> None:
    net = layer("tanh", 2, 12)
    before = diagnosed(Stack("rnn", ((net,),))).layers[0].recurrent_weight
    net.weight_hh.mul_(1e200)
    after = diagnosed(Stack("rnn", ((net,),))).layers[0].recurrent_weight
    assert before is not None
    assert after is not None
    assert after.nonnormality == pytest.approx(before.nonnormality, rel=1e-9)
