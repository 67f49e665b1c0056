"""A gain in the band may be that of one direction: how many are live, and what that does to the order."""

from __future__ import annotations

import pytest

from rnndiag import RandomNet, prescribe

NETS = {"gaussian": RandomNet(hidden=24, input_size=3, sigma=0.6), "lstm": RandomNet("lstm", 16, 3, forget_bias=-6.0)}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_the_share_is_that_of_the_report_after_it(net: RandomNet) -> None:
    told = prescribe(net, length=60, batch=8)
    assert told.after is not None
    spectrum = told.after.layers[0].lyapunov
    chosen = next(t for t in told.treatments if t.name == told.chosen)
    assert chosen.live == spectrum.live_directions / len(spectrum.exponents) == 1.0


def test_one_live_direction_ranks_behind_many() -> None:
    told = prescribe(NETS["gaussian"], length=60, batch=8, treatments="*e*")
    names = [t.name for t in told.treatments]
    rescaled = told.treatments[names.index("rescale")]
    assert rescaled.verdict == "healthy"
    assert abs(rescaled.log10_gain) < 0.1  # nearer to 0 than what is chosen
    assert rescaled.live is not None
    assert rescaled.live < 1
    assert names.index("rescale") > names.index("nearest-orthogonal+scale-inputs")
    assert told.chosen == names[0]


def test_it_is_not_known_of_what_stays_ill() -> None:
    told = prescribe(NETS["gaussian"], length=60, batch=8, treatments="init-xavier")
    assert [(t.verdict, t.live) for t in told.treatments] == [("vanishing", None)]
