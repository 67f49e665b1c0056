"""The estimate before long work."""

from __future__ import annotations

import logging

import pytest
import torch

from rnndiag import measuring_cost
from rnndiag.bench import Bench
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import SettingsError
from rnndiag.measuring_cost import Cost, cost, gemm_rate
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet


def of(length: int = 100, batch: int = 16, exponents: int = 8, **net: object) -> Cost:
    stack = RandomNet(**net).build().stacks[0]  # type: ignore[arg-type]
    return cost(Bench.of(stack, Probe(length=length, batch=batch), Settings(exponents=exponents)))


@pytest.mark.parametrize("more", [{"length": 1000}, {"batch": 64}, {"hidden": 256}, {"layers": 2}, {"cell": "lstm"}])
def test_more_work_costs_more(more: dict[str, object]) -> None:
    assert of(**more).seconds(1e10) > of().seconds(1e10)
    assert of(**more).memory > of().memory


def test_memory_does_not_grow_with_maps_times_weights() -> None:
    """A million steps of 32 units: 8 GB as dense Jacobians, and still under one as diagonals."""
    assert of(length=10**6, batch=1, hidden=32).memory < 2**30


@pytest.mark.parametrize(("seconds", "said"), [(31, "31 s"), (1200, "20 min"), (10800, "3.0 h")])
def test_it_is_said_in_one_line(seconds: float, said: str) -> None:
    told = Cost(seconds * 1e9, 0, 0, 2**31).message("encoder", 1e9)
    assert told == f"encoder: about {said} and 2.0 GiB, at 1 GFlop/s"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_rate_of_products_is_between_that_of_an_abacus_and_of_a_great_machine(dtype) -> None:
    assert 1e6 < gemm_rate(Settings(dtype=dtype)) < 1e16


def test_long_work_is_announced_and_short_work_is_not(caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    model = RandomNet(hidden=8).build()
    diagnose(model, Probe(length=10, batch=2))
    assert not caplog.records
    monkeypatch.setattr(measuring_cost, "ANNOUNCE_SECONDS", 0.0)
    diagnose(model, Probe(length=10, batch=2))
    (record,) = caplog.records
    assert record.getMessage().startswith("rnn: about 0 s and 0.0 GiB, at ")


def test_what_would_not_fit_is_refused_before_it_begins() -> None:
    model = RandomNet(hidden=64).build()
    probe = Probe("file", 10**4, 10**9, array=torch.zeros(1, 1, 16).expand(10**4, 10**9, 16))
    with pytest.raises(SettingsError, match=r"would take about \d+ GiB on rnn, this machine has"):
        diagnose(model, probe)


@pytest.mark.parametrize(("sigma", "told"), [(0.3, True), (1.5, False)])
def test_that_treatments_are_tried_is_told_where_it_takes_long(
    sigma: float, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measuring_cost, "ANNOUNCE_SECONDS", 0.0)
    model = RandomNet(sigma=sigma, hidden=8, input_scale=0.1).build()
    with caplog.at_level("INFO", logger="rnndiag"):
        diagnose(model, Probe(length=20, batch=6))
    assert ("rnn: trying treatments takes a few times as long; --no-treat leaves them out" in caplog.text) is told


def test_what_is_long_to_measure_once_is_not_treated_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, probe = RandomNet(sigma=0.3, hidden=8, input_scale=0.1).build(), Probe(length=20, batch=6)

    def tried() -> bool:
        return any(suggestion.after is not None for finding in report.findings for suggestion in finding.suggestions)

    report = diagnose(model, probe)
    assert tried()
    assert not report.notes
    monkeypatch.setattr(measuring_cost, "MAX_MEASURING_SECONDS", 0.0)
    report = diagnose(model, probe)
    assert not tried()
    assert report.findings
    assert report.notes == (
        "treatments were not tried on rnn, as measuring it once is long; rnndiag prescribe tries them",
    )
