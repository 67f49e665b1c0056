"""The diagnosis of whole stacks: in another precision, and of chosen layers."""

from __future__ import annotations

import pytest

from tests.builders.diagnosed import diagnosed
from tests.oracles.nets import FORMS, stack


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacks_in_float32(kind: str, bidirectional: bool) -> None:
    nets = stack(kind, 2, bidirectional=bidirectional)
    double, single = (diagnosed(nets, dtype=dtype) for dtype in ("float64", "float32"))
    one, two = (each.stacks[0].gradient for each in (double, single))
    assert one is not None
    assert two is not None
    assert two.log10_gain == pytest.approx(one.log10_gain, abs=0.05)


def test_choosing_a_layer_leaves_out_the_findings_of_the_others() -> None:
    measured = diagnosed(stack("tanh", 2), layers="rnn.l0")
    assert {finding.layer for finding in measured.findings} <= {"rnn", "rnn.l0"}
