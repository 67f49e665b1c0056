"""Training order: runs whose order is known are put back into it from every shuffle, or it is said what was not."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.report import Report
from rnndiag.trend.order import Order, arrange
from tests.builders.training_runs import RISING


def of(path: str, **progress: int) -> Report:
    return replace(RISING[0], source=replace(RISING[0].source, path=path, progress=progress))


def arranged(reports: list[Report]) -> tuple[Order, list[tuple[float, str]]]:
    """The order, the same however the files are given, with the step of each."""
    order, placed = arrange(reports, "auto")
    for seed in range(5):
        shuffled = random.Random(seed).sample(reports, len(reports))
        assert arrange(shuffled, "auto") == (order, placed)
    return order, [(step, report.source.path) for step, report in placed]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["Epoch_1_loss_0.9.pt", "Epoch_2_loss_0.5.pt", "Epoch_3_loss_0.7.pt", "Epoch_4_loss_0.3.pt"], [1, 2, 3, 4]),
        (["Step-9k_Epoch-1.PT", "STEP-10K_EPOCH-1.PT"], [9_000, 10_000]),
        (["model.ckpt-900", "model.ckpt-1200"], [900, 1200]),
        (["m.pt.900", "m.pt.1200", "m.pt.10000"], [900, 1200, 10_000]),
        (["run7-9.tar.bz2", "run7-10.tar.bz2"], [9, 10]),
        (["lstm2.3.h5", "lstm2.4.h5"], [2.3, 2.4]),
        (["epoch0_step300.pt", "epoch1_step300.pt", "epoch1_step600.pt"], [300, 300, 600]),
    ],
)
def test_a_number_that_counts(names: list[str], steps: list[float]) -> None:
    order, placed = arranged([of(f"run/{name}") for name in names])
    assert (order.by, order.axis) == ("name", "number in the name")
    assert placed == list(zip(steps, [f"run/{name}" for name in names], strict=True))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["run_2024-05-01_10-22-33.pt", "run_2024-05-01_11-05-02.pt", "run_2024-06-01_00-00-00.pt"], "several numbers"),
        (["weights.9-0.25.pt", "weights.10-0.30.pt", "weights.11-0.15.pt"], "several numbers"),
        (["e_epoch0_step100.pt", "e_epoch0_step200.pt", "e_epoch1_step100.pt", "e_epoch1_step200.pt"], "begins anew"),
    ],
)
def test_names_of_several_numbers_are_counted_and_it_is_said(names: list[str], said: str) -> None:
    order, placed = arranged([of(name) for name in names])
    assert (order.by, order.axis) == ("name", "checkpoint")
    assert placed == list(enumerate(names, 1))
    assert said in order.reason


@pytest.mark.parametrize("names", [["step=100.pt", "epoch=7.pt"], ["m-1-2.pt", "last-5.pt"], ["step=5.pt", "v1.pt"]])
def test_names_that_tell_different_things_tell_no_order(names: list[str], tmp_path: Path) -> None:
    for when, name in enumerate(names, 1000):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    order, placed = arranged([of(str(tmp_path / name)) for name in names])
    assert (order.by, [Path(path).name for _, path in placed]) == ("time", names)
    assert "not by name" in order.reason


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True), min_size=2, max_size=6),
    st.sampled_from(["step", "iteration", "iter"]),
)
def test_a_count_that_begins_anew_in_each_epoch(runs: list[list[int]], key: str) -> None:
    """The oracle: the pairs of epoch and count, sorted."""
    places = [(epoch, count) for epoch, counts in enumerate(runs) for count in sorted(counts)]
    if len({count for _, count in places}) in (1, len(places)):
        return  # nothing comes again, or it stands still
    reports = [of(f"{i}.pt", **{"epoch": epoch, key: count}) for i, (epoch, count) in enumerate(places)]
    order, placed = arrange(random.Random(0).sample(reports, len(reports)), "auto")
    if [count for _, count in places] == sorted(count for _, count in places):
        assert order.axis in ("epoch", key)  # it never falls: it may as well count all of training
    else:
        assert [report.source.path for _, report in placed] == [report.source.path for report in reports]
        assert len({step for step, _ in placed}) == len(places)


def test_a_count_of_all_training_is_believed() -> None:
    whole = [of(f"{i}.pt", epoch=i // 3, global_step=100 * (i + 1)) for i in range(9)]
    order, placed = arranged(whole)
    assert (order.axis, [step for step, _ in placed]) == ("global_step", [100.0 * (i + 1) for i in range(9)])
    resumed = [of(f"{i}.pt", epoch=i % 3, global_step=100 * (i + 1)) for i in range(9)]
    order, placed = arranged(resumed)
    assert [step for step, _ in placed] == [100.0 * (i + 1) for i in range(9)]
    assert order.reason == "by global_step, though epoch falls meanwhile"
