"""Many models through one executor: one outcome for each, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rnndiag.checkpoint.formats.registry import FORMATS
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.config.settings import Settings
from rnndiag.fleet.cache import SINGLE_FILE_FORMATS
from rnndiag.fleet.executors import InProcess
from rnndiag.fleet.job import Failure, Job
from rnndiag.fleet.processes import processes
from rnndiag.fleet.run import MAX_PATHS_PER_TASK, TASKS_PER_SLOT, Outcome, measure
from rnndiag.probes import Probe
from rnndiag.report import from_json, to_builtins, to_json
from rnndiag.rules.policy import Policy
from tests.builders.fleets import ten

JOB = Job(Probe(length=12, batch=3), Settings(exponents=2))


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    return ten(tmp_path / "models")


def comparable(outcomes: list[Outcome]) -> dict[tuple[int, str], Any]:
    assert len({outcome.index for outcome in outcomes}) == len(outcomes)
    shown = {}
    for each in outcomes:
        failed = isinstance(each.result, Failure)
        shown[each.index, each.path] = each.result if failed else to_builtins(each.result)  # type: ignore[arg-type]
    return shown


@dataclass(frozen=True)
class Deadly(Job):
    """A job whose process is killed: always by one path, once by another."""

    def report(self, path: str, progress: Any = None) -> Any:
        name = Path(path)
        if name.name == "m5.pt":
            os.kill(os.getpid(), signal.SIGKILL)
        if name.name == "m2.pt" and not name.with_suffix(".seen").exists():
            name.with_suffix(".seen").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().report(path, progress)


def test_processes_die_and_nothing_is_lost_and_nothing_twice(models: list[str]) -> None:
    alone = comparable(list(measure(models, JOB, InProcess())))
    with processes(2) as pool:
        parallel = list(measure(models, Deadly(JOB.probe, JOB.settings), pool, slots=2))
    (fatal,) = [outcome for outcome in parallel if outcome.path.endswith("m5.pt")]
    assert isinstance(fatal.result, Failure)
    assert "its process died, twice" in fatal.result.message
    others = {key: value for key, value in alone.items() if key != (fatal.index, fatal.path)}
    assert comparable([outcome for outcome in parallel if outcome is not fatal]) == others


class Watched(Executor):
    """Counts the tasks that are out."""

    def __init__(self, pool: Executor) -> None:
        self.pool, self.sent, self.most, self.taken = pool, 0, 0, 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.sent += len(args[1])
        self.most = max(self.most, self.sent - self.taken)
        return self.pool.submit(fn, *args, **kwargs)


class Nothing:
    def report(self, path: str, progress: Any = None) -> Any:
        return path


@pytest.mark.parametrize(("count", "slots"), [(0, 2), (1, 2), (7, 3), (5000, 4)])
def test_few_tasks_are_out_however_many_paths(count: int, slots: int) -> None:
    with ThreadPoolExecutor(slots) as threads:
        watched = Watched(threads)
        seen = Counter()
        for outcome in measure([f"p{i}" for i in range(count)], Nothing(), watched, slots=slots):
            watched.taken += 1
            seen[outcome.index, outcome.result] += 1
    assert seen == Counter({(i, f"p{i}"): 1 for i in range(count)})
    # Of the task that is being handed on, some paths may not have been taken yet.
    assert watched.most <= (TASKS_PER_SLOT * slots + 1) * MAX_PATHS_PER_TASK


class Inverse:
    def report(self, path: str, progress: Any = None) -> Any:
        return 1 / int(path)


def test_a_bug_that_one_file_brings_out_costs_that_file_alone() -> None:
    results = [outcome.result for outcome in measure(["1", "0", "2"], Inverse(), InProcess())]  # type: ignore[arg-type]
    assert results[0::2] == [1.0, 0.5]
    assert isinstance(results[1], Failure)
    assert (results[1].code, "ZeroDivisionError" in results[1].trace) == (3, True)


def test_the_same_conditions_the_same_digest_and_any_other_another() -> None:
    array = torch.ones(5, 1, 2, dtype=torch.float64)
    filed = Probe("file", 5, 1, array=array)
    jobs = [
        JOB,
        replace(JOB, probe=replace(JOB.probe, seed=1)),
        replace(JOB, probe=filed),
        replace(JOB, probe=replace(filed, array=2 * array)),
        replace(JOB, settings=replace(JOB.settings, draws=5)),
        replace(JOB, policy=Policy(ignore=("VAN",))),
        replace(JOB, answers=Answers(nonlinearity="relu")),
        replace(JOB, answers=Answers(maps=(parse_map("hh=*.U,ih=*.W"),))),
    ]
    assert len({job.conditions for job in jobs}) == len(jobs)
    assert replace(jobs[3], probe=replace(filed, array=2 * array)).conditions == jobs[3].conditions
    assert replace(JOB, cache=Path("elsewhere")).conditions == JOB.conditions


def test_a_report_survives_its_line(models: list[str]) -> None:
    for path in (models[0], models[8]):
        report = JOB.report(path)
        assert to_builtins(from_json(to_json(report))) == to_builtins(report)


def test_every_format_is_known_to_be_one_file_or_not() -> None:
    assert {each.name for each in FORMATS} - SINGLE_FILE_FORMATS == {"sharded", "huggingface", "distributed", "onnx"}


class Threads:
    def report(self, path: str, progress: Any = None) -> Any:
        return torch.get_num_threads()


def test_processes_of_a_fleet_have_one_thread_and_this_one_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        here = [outcome.result for outcome in measure(["a", "b"], Threads(), InProcess())]
        with processes(2) as pool:
            there = [outcome.result for outcome in measure(["a", "b"], Threads(), pool, slots=2)]
        assert (here, there, torch.get_num_threads()) == ([3, 3], [1, 1], 3)
    finally:
        torch.set_num_threads(before)
