"""Quantities along a run beside closed forms: a scaled orthogonal matrix at rest."""

from __future__ import annotations

import math

import pytest
import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.measures.thinning import MAX_WHOLE_STEPS
from rnndiag.probes import Probe
from rnndiag.trend.quantities import of_stack


@pytest.mark.parametrize("length", [200, MAX_WHOLE_STEPS, MAX_WHOLE_STEPS + 700])
@pytest.mark.parametrize("share", [0.5, 2.0], ids=["lost half way", "kept throughout"])
def test_memory_is_a_lag_however_few_points_a_curve_has(length: int, share: float) -> None:
    """Each step multiplies the gradient by ``10^(threshold / lag)``: under the threshold from that lag on."""
    lag = share * length
    threshold = Settings().thresholds.vanishing
    scale = 10 ** (threshold / (lag - 0.5))
    layer = RecurrentLayer("rnn.l0", "tanh", torch.zeros(2, 1).double(), torch.eye(2).double() * scale)
    report = diagnose(
        Model(Source("model.pt", "random"), (Stack("rnn", ((layer,),)),)),
        Probe("zeros", length, 1),
        Settings(exponents=1, treat=False),
    )
    (stack,) = report.stacks
    points = len(stack.gradient.log10_by_lag)  # type: ignore[union-attr]
    assert (points < length) == (length > MAX_WHOLE_STEPS)
    between = math.ceil(length / points) * 3 if points < length else 0
    assert 0 <= of_stack(stack, report.thresholds)["memory"] - min(lag, length) <= between  # type: ignore[operator]
