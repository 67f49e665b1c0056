"""Sweeps against ``simulate`` net by net, against closed forms, and against themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rnndiag import api
from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError
from rnndiag.random_nets import RandomNet
from rnndiag.sweep.ensemble import measure_nets
from rnndiag.sweep.result import Sweep
from rnndiag.theory.mean_field import critical_sigma, mean_field

SMALL = {"hidden": 12, "length": 15}
CELLS = ("tanh", "relu", "gru", "lstm")
INITS = ("gaussian", "xavier", "he", "orthogonal", "identity", "pytorch")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("init", INITS)
def test_a_points_nets_are_those_that_simulate_measures(cell: str, init: str) -> None:
    settings = Settings(lag=9, seed=5)
    gain = {"sigma": (0.7, 2.5)} if init == "gaussian" else {"bias_scale": (0.0, 0.3)}
    found = api.sweep({**SMALL, "cell": cell, "init": init, **gain}, nets=2, batch=7, settings=settings)
    assert len(found.points) == 2
    for point in found.points:
        varied = {name: point[name] for name in gain}
        for net in point.nets:
            drawn = RandomNet(cell=cell, init=init, hidden=12, seed=net.seed, **varied)  # type: ignore[arg-type]
            alone = Settings(lag=9, seed=net.seed, treat=False)
            report = api.simulate(drawn, length=15, batch=7, settings=alone)
            (layer,) = report.layers
            assert layer.gradient is not None
            assert layer.jacobian is not None
            assert layer.saturation is not None
            assert net.verdict == layer.verdict == report.verdict
            assert net.rate == pytest.approx(layer.gradient.rate, rel=1e-9)
            assert net.log10_gain == pytest.approx(layer.gradient.log10_gain, rel=1e-9)
            assert net.log10_gain_interval == pytest.approx(layer.gradient.log10_gain_interval, rel=1e-9)
            assert net.rms_gain == pytest.approx(layer.jacobian.rms_gain_median, rel=1e-9)
            assert net.saturation == pytest.approx(layer.saturation.rate, abs=1e-12)


def test_a_chaotic_net_is_the_same_net_too() -> None:
    """Rounding alone would lead it elsewhere within these steps."""
    found = api.sweep({"sigma": 4.0, "input_scale": 0.01, "hidden": 32, "length": 300}, nets=1, batch=6)
    net = RandomNet(sigma=4.0, input_scale=0.01, hidden=32)
    report = api.simulate(net, length=300, batch=6, settings=Settings(treat=False))
    assert found.points[0].rate == pytest.approx(report.stacks[0].gradient.rate, rel=1e-9)  # type: ignore[union-attr]


def test_of_several_nets_the_median_with_its_spread() -> None:
    (point,) = api.sweep({**SMALL, "sigma": 1.1}, nets=3).points
    rates = sorted(net.rate for net in point.nets if net.rate is not None)
    assert [net.seed for net in point.nets] == [0, 1, 2]
    assert point.rate == rates[1]
    assert point.rate_range == (rates[0], rates[2])
    assert point.rate == pytest.approx(point.log10_gain * math.log(10) / 15)  # type: ignore[operator]
    ends = [end for net in point.nets for end in net.log10_gain_interval or ()]
    assert point.log10_gain_interval == (min(ends), max(ends))


def test_states_that_overflow_make_a_point_invalid_and_leave_the_others_alone() -> None:
    found = api.sweep({"cell": "relu", "sigma": (1.0, 1e30), "hidden": 8, "length": 20}, nets=2)
    good, bad = found.points
    assert (bad.verdict, bad.rate, bad.nets[0].rate) == ("invalid", None, None)
    assert good.verdict != "invalid"
    assert good == api.sweep({"cell": "relu", "sigma": 1.0, "hidden": 8, "length": 20}, nets=2).points[0]


def test_a_net_at_rest_has_the_rate_of_its_own_matrix() -> None:
    """Without input and bias every Jacobian is W_hh: the gain is that of its powers, and theory's rate log sigma."""
    found = api.sweep({"sigma": (0.8, 1.3), "input_scale": 0, "hidden": 30, "length": 40}, nets=1)
    for point in found.points:
        net = RandomNet(sigma=point["sigma"], input_scale=0, hidden=30)  # type: ignore[arg-type]
        (layer,) = net.build().stacks[0].layers
        power = torch.linalg.matrix_power(layer.weight_hh, 40)
        rms = float(torch.linalg.matrix_norm(power) / math.sqrt(30))
        assert point.log10_gain == pytest.approx(math.log10(rms), abs=0.5)
        assert point.theory_rate == pytest.approx(math.log(float(point["sigma"])))
    assert "rests at zero" in found.notes[0]


def test_theory_stands_beside_where_it_applies() -> None:
    point = api.sweep({**SMALL, "sigma": 1.4, "input_scale": 0.5, "bias_scale": 0.2}, nets=1, scale=2.0).points[0]
    assert point.theory_rate == mean_field(1.4, 0.5**2 * 2.0**2 + 0.2**2, "tanh").rate
    for other in ({"cell": "gru"}, {"cell": "lstm"}, {"init": "orthogonal"}):
        assert api.sweep({**SMALL, "bias_scale": 0.1} | other, nets=1).points[0].theory_rate is None


def test_the_critical_gain_is_where_each_nets_rate_is_zero_and_near_theorys() -> None:
    found = api.sweep({"sigma": "0.5:3:6", "input_scale": (0.3, 1), "hidden": 96, "length": 60}, nets=3)
    assert found.complete
    for critical in found.critical:
        scale = float(dict(critical.at)["input_scale"])
        for seed, sigma in enumerate(critical.roots):
            net = RandomNet(sigma=sigma, input_scale=scale, hidden=96, seed=seed)
            report = api.simulate(net, length=60, settings=Settings(seed=seed, treat=False))
            assert report.stacks[0].gradient is not None
            assert abs(report.stacks[0].gradient.rate) < 1e-3
        assert critical.sigma is not None
        assert critical.uncertainty is not None
        assert critical.interval == (min(critical.roots), max(critical.roots))  # type: ignore[type-var]
        assert critical.theory == critical_sigma(scale**2, "tanh")
        assert critical.sigma == pytest.approx(critical.theory, rel=0.06)


def test_a_range_without_the_critical_gain_says_so() -> None:
    (critical,) = api.sweep({**SMALL, "sigma": (0.2, 0.4)}, nets=2).critical
    assert (critical.sigma, critical.interval, critical.roots) == (None, None, (None, None))


@pytest.mark.parametrize(("workers", "cores"), [(1, 4), (3, 2)])
def test_the_result_hangs_on_neither_workers_nor_batches(
    monkeypatch: pytest.MonkeyPatch, workers: int, cores: int
) -> None:
    axes = {"sigma": "0.3:4:5", "hidden": (10, 12), "length": 12, "input_scale": 0.3}
    usual = api.sweep(axes, nets=2)
    monkeypatch.setattr("rnndiag.sweep.plan.MAX_BATCH_NETS", cores)
    again = api.sweep(axes, nets=2, workers=workers)
    assert [p.verdict for p in again.points] == [p.verdict for p in usual.points]
    assert rates(again) == pytest.approx(rates(usual), rel=1e-10)
    assert [c.sigma for c in again.critical] == pytest.approx([c.sigma for c in usual.critical], rel=1e-6)


def rates(found: Sweep) -> list[float]:
    return [point.rate for point in found.points if point.rate is not None]


def test_no_nets_is_no_measurement() -> None:
    net = RandomNet(cell="relu", sigma=1e100, hidden=4, input_size=2)
    probe = api.make_probe("noise", length=5, batch=2)
    assert [m.verdict for m in measure_nets([net], probe, 5, Settings())] == ["invalid"]


# What is kept


AXES = {"sigma": "0.5:2:4", "input_scale": (0.1, 1), "hidden": 6, "length": 8}


def test_what_a_file_holds_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sweep.jsonl"
    first = api.sweep(AXES, nets=2, resume=file)
    held = file.read_bytes()
    monkeypatch.setattr("rnndiag.sweep.run.measure_nets", None)
    assert api.sweep(AXES, nets=2, resume=file) == first
    assert file.read_bytes() == held


@pytest.mark.parametrize("cut", [1, 30, 300, 900])
def test_a_torn_end_is_measured_again(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "sweep.jsonl"
    first = api.sweep(AXES, nets=2, resume=file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert api.sweep(AXES, nets=2, resume=file) == first
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_header_torn_at_its_first_letters_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    first = api.sweep(AXES, nets=2, resume=file)
    file.write_bytes(file.read_bytes()[:25])
    assert api.sweep(AXES, nets=2, resume=file) == first


def test_other_conditions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    api.sweep(AXES, nets=1, resume=file)
    held = file.read_bytes()
    for changed, word in (
        ({"nets": 2}, "nets 1, not 2"),
        ({"settings": Settings(seed=1)}, "seed 0, not 1"),
        ({"batch": 3}, "probe"),
        ({"axes": AXES | {"hidden": 7}}, "axes"),
    ):
        with pytest.raises(SettingsError, match=word):
            api.sweep(**({"axes": AXES, "nets": 1, "resume": file} | changed))  # type: ignore[arg-type]
    assert file.read_bytes() == held


@pytest.mark.parametrize("content", [b"hello\n", b'{"a": 1}\n', b"\x80\x02", b"[]\n"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="expected a file that rnndiag sweep wrote"):
        api.sweep(AXES, nets=1, resume=file)
    assert file.read_bytes() == content


def test_a_damaged_line_is_told_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    api.sweep(AXES, nets=1, resume=file)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = b"{\n"
    file.write_bytes(b"".join(lines))
    with pytest.raises(SettingsError, match="line 3 is damaged"):
        api.sweep(AXES, nets=1, resume=file)


def test_an_interrupt_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnndiag.sweep.plan.MAX_BATCH_NETS", 2)
    file = tmp_path / "sweep.jsonl"

    def interrupt(name: str, done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    part = api.sweep(AXES, nets=2, resume=file, workers=1, progress=interrupt)
    assert not part.complete
    assert 3 <= len(part.points) < part.total == 8
    whole = api.sweep(AXES, nets=2, resume=file)
    assert whole.complete
    assert whole == api.sweep(AXES, nets=2)
    assert [point for point in whole.points if point.condition in {p.condition for p in part.points}] == list(
        part.points
    )
