"""Runs whose gain is known in closed form: a scaled orthogonal matrix at rest."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.diagnose import diagnose
from rnndiag.errors import SettingsError
from rnndiag.report import Report
from rnndiag.trend import Trend, trend
from tests.builders.training_runs import REST, RISING, T, net, report, run


def gains(of: Trend) -> list[float]:
    return [point.stacks[0].measures["log10_gain"] for point in of.points]


def test_the_measures_are_those_of_the_closed_form() -> None:
    told = trend(RISING)
    assert gains(told) == pytest.approx([-1 + 0.4 * i for i in range(14)], abs=1e-9)
    layer = [point.layers[0].measures for point in told.points]
    scales = [10 ** (gain / T) for gain in gains(told)]
    assert [each["spectral_norm"] for each in layer] == pytest.approx(scales)
    assert [each["exponent"] for each in layer] == pytest.approx([math.log(scale) for scale in scales])
    assert {each["saturation"] for each in layer} == {0.0}


def test_the_change_lies_between_the_checkpoints_around_the_crossing() -> None:
    told = trend(RISING)
    verdicts = [point.verdict for point in told.points]
    assert verdicts[:10] == ["healthy"] * 10
    assert verdicts[11:] == ["exploding"] * 3
    assert told.changes[0].last_step <= 1100 <= told.changes[-1].first_step
    assert told.changes[-1].after == "exploding"


def test_the_warning_comes_before_the_change_and_says_when() -> None:
    told = trend(RISING)
    change = told.changes[0]
    assert change.warned == "TRD001"
    assert change.warned_step is not None
    assert change.warned_step < change.last_step
    # As it stood one checkpoint before the crossing.
    early = trend(RISING[:9])
    (finding,) = early.findings
    assert (finding.rule, finding.evidence["crosses_at"]) == ("TRD001", pytest.approx(1100))


def test_falling_is_told_from_rising() -> None:
    assert {finding.rule for finding in trend(run(-0.002, 0.5)).findings} == {"TRD002"}
    assert trend(run(0.0, 0.5)).findings == ()


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(14)))
def test_the_order_given_makes_no_difference(order: list[int]) -> None:
    assert trend([RISING[i] for i in order]) == trend(RISING)


def named(*paths: str) -> list[Report]:
    return [
        replace(RISING[i], source=replace(RISING[i].source, path=path, progress={})) for i, path in enumerate(paths)
    ]


@pytest.mark.parametrize(
    ("paths", "steps"),
    [
        (["m10.pt", "m9.pt", "m2.pt"], [2, 9, 10]),
        (["run/checkpoint-500/model.safetensors", "run/checkpoint-1000/model.safetensors"], [500, 1000]),
        (["epoch=1-step=200-v1.ckpt", "epoch=0-step=100.ckpt"], [100, 200]),
        (["epoch=3-val_loss=0.25.ckpt", "epoch=4-val_loss=0.75.ckpt"], [3, 4]),
        (["run-2.pt", "run-1.pt"], [1, 2]),
        (["step_10k.pt", "step_900.pt", "step_1.5M.pt"], [900, 10_000, 1_500_000]),
    ],
)
def test_the_number_in_the_name(paths: list[str], steps: list[float]) -> None:
    told = trend(named(*paths))
    assert (told.order.by, told.order.axis) == ("name", "number in the name")
    assert [point.step for point in told.points] == steps
    assert "no step" in told.order.reason


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8, unique=True), st.sampled_from(["step=", "ckpt-", ""]))
def test_numbers_in_names_sort_as_numbers(numbers: list[int], word: str) -> None:
    told = trend(named(*(f"model2_{word}{number}.pt" for number in numbers)))
    assert [point.step for point in told.points] == sorted(numbers)


def test_a_number_that_counts_nothing_is_none() -> None:
    with pytest.raises(SettingsError, match=r"m9+…9+\.pt holds no number in the name"):
        trend(named(f"m{'9' * 400}.pt", "m1.pt"))


def test_by_name_without_numbers() -> None:
    told = trend(named("b.pt", "a.pt", "c.pt"), order="name")
    assert [(point.path, point.step) for point in told.points] == [("a.pt", 1), ("b.pt", 2), ("c.pt", 3)]


def test_by_time(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("best.pt", "last.pt", "first.pt")]
    for path, when in zip(paths, (2000, 3000, 1000), strict=True):
        path.touch()
        os.utime(path, (when, when))
    told = trend(named(*map(str, paths)))
    assert told.order.by == "time"
    assert "no number in the name" in told.order.reason
    assert [Path(point.path).stem for point in told.points] == ["first", "best", "last"]
    assert [point.step for point in told.points] == [1, 2, 3]


def test_as_given() -> None:
    told = trend(named("c.pt", "a.pt"), order="given")
    assert [point.path for point in told.points] == ["c.pt", "a.pt"]


def test_the_counter_is_one_that_all_files_hold_and_that_moves() -> None:
    held = [
        report(1.0, "a.pt", global_step=0, epoch=2),
        report(1.1, "b.pt", global_step=0, epoch=1),
        report(1.2, "c.pt", global_step=0, epoch=3),
    ]
    told = trend(held)
    assert (told.order.axis, [point.path for point in told.points]) == ("epoch", ["b.pt", "a.pt", "c.pt"])


@pytest.mark.parametrize(
    ("reports", "order", "message"),
    [
        ([], "auto", "needs at least 2 checkpoints of one run, got 0"),
        (RISING[:1], "auto", r"got 1 \(0.pt\)"),
        ([report(1.0, "a.pt", digest="ab", step=1), report(1.0, "b.pt", digest="ab", step=1), ], "name", "copies"),
        (named("nowhere/a.pt", "nowhere/b.pt"), "auto", "not by step: the files hold no step; not by name: the files "
         "hold no number in the name; not by time: nowhere/a.pt has no time"),
        ([report(1.0, "a.pt", step=1), report(1.1, "b.pt")], "step", "not by step: b.pt holds no step"),
        ([report(1.0, "a.pt", step=1), report(1.1, "b.pt", step=1)], "step", "step is 1 in all of them"),
        ([RISING[0], replace(RISING[1], probe=replace(RISING[1].probe, seed=5))], "auto", "measured differently"),
    ],
)  # fmt: skip
def test_what_is_no_run_is_refused(reports: list[Report], order: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        trend(reports, order=order)


def test_copies_count_once_and_several_files_of_a_step_are_told() -> None:
    first, *rest = RISING[:6]
    copy = replace(rest[-1], source=replace(rest[-1].source, path="last.pt", sha256="ab"))
    rest[-1] = replace(rest[-1], source=replace(rest[-1].source, sha256="ab"))
    other = report(1.0, "other.pt", global_step=100)
    told = trend([first, *rest, copy, other])
    assert len(told.points) == 7
    assert "last.pt is the same file as 5.pt; it counts once" in told.notes
    assert "step 100 is that of 2 different files: 0.pt, other.pt" in told.notes


def test_the_same_content_at_another_step_is_a_checkpoint_and_steps_are_told_in_full() -> None:
    frozen = [report(0.9, f"{i}.pt", digest="ab", global_step=1_234_567 + i) for i in range(3)]
    other = report(1.0, "other.pt", global_step=1_234_567)
    told = trend([*frozen, other])
    assert [point.step for point in told.points] == [1_234_567, 1_234_567, 1_234_568, 1_234_569]
    assert "step 1234567 is that of 2 different files: 0.pt, other.pt" in told.notes
    given = trend([*frozen, other], order="given")  # where nothing says that a copy is a checkpoint of its own
    assert [point.path for point in given.points] == ["0.pt", "other.pt"]


def test_layers_that_come_go_or_grow_are_told() -> None:
    def model(step: int, *layers: RecurrentLayer) -> Report:
        source = Source(f"{step}.pt", "random", progress={"step": step})
        return diagnose(Model(source, tuple(Stack(la.name[:-3], ((la,),)) for la in layers)), REST)

    told = trend([model(1, net(1.0)), model(2, net(1.0), net(0.9, "dec.l0")), model(3, net(0.8, size=6))])
    assert "dec.l0 is in 1 of 3 checkpoints, from step 2 to 2" in told.notes
    grown = "rnn.l0 is tanh 3>12 up to step 2 and tanh 3>6 from step 3 on; its drift is judged from there"
    assert grown in told.notes


def test_broken_numbers_are_a_change_for_the_worse() -> None:
    broken = net(1.0)
    broken.weight_hh[0, 0] = math.nan
    source = Source("9.pt", "random", progress={"global_step": 9000})
    told = trend([*RISING[:6], diagnose(Model(source, (Stack("rnn", ((broken,),)),)), REST)])
    assert (told.changes[-1].before, told.changes[-1].after) == ("healthy", "invalid")
    assert "TRD004" in {finding.rule for finding in told.findings}
    assert told.points[-1].stacks[0].measures["log10_gain"] is None
