"""Run a sweep: every point of the grid, then the critical gain; stop at any time and go on later."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rnndiag.diagnose import Progress
from rnndiag.machine.device import device_of, measuring
from rnndiag.sweep.axes import Condition, conditions, varying
from rnndiag.sweep.critical import critical_gains
from rnndiag.sweep.ensemble import measure_nets
from rnndiag.sweep.log import Key, Log, MeasuredNet
from rnndiag.sweep.plan import Plan
from rnndiag.sweep.points import summarize_point
from rnndiag.sweep.result import NetMeasure, Sweep

END_SECONDS = 2.0
"""The time in which running batches may finish after an interrupt; results of slower batches are lost."""


def run(
    plan: Plan,
    *,
    workers: int | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure a plan's points, and find the critical gain where sigma varies.

    Batches of nets go to a pool of threads, one computing thread each, which is worth more than the threads of a
    single product of this size. An interrupt (Ctrl-C) ends the work early: what was measured by then is returned, and
    ``complete`` is False.

    Args:
        plan: what to measure.
        workers: threads; None: as many as this process may use.
        resume: a file that keeps what is measured as it is; what it holds already is not measured again.
        progress: called when points are done.

    Raises:
        SettingsError: for a file of other conditions.
    """
    grid = list(conditions(plan.axes))
    with ExitStack() as stack:
        known: dict[Key, NetMeasure] = {}
        log = None
        if resume is not None:
            log, known = Log.open(resume, describe(plan))
            stack.enter_context(log)
        pool = _NetPool(plan, known, log, min(workers or _cores(), plan.at_once()))
        critical: tuple[Any, ...] = ()
        try:
            missing = [key for condition in grid for seed in plan.seeds if (key := (condition, seed)) not in known]
            pool.measure(missing, None if progress is None else _Tally(progress, grid, missing))
            if "sigma" in varying(plan.axes):
                if progress is not None:
                    progress("critical sigma", len(grid), len(grid))
                critical = critical_gains(plan, known, pool.measure)
        except KeyboardInterrupt:
            pass  # what is done is kept, and the result says that it is not all
    points = tuple(
        summarize_point(plan, condition, [known[condition, seed] for seed in plan.seeds])
        for condition in grid
        if all((condition, seed) in known for seed in plan.seeds)
    )
    searched = "sigma" not in varying(plan.axes) or bool(critical)
    return Sweep(plan.axes, describe(plan), points, len(grid), critical, searched, _notes(plan, grid))


def describe(plan: Plan) -> dict[str, Any]:
    """Everything that a sweep's numbers depend on, as JSON types."""
    probe, settings = plan.probe, plan.settings
    return {
        "axes": {name: list(values) for name, values in plan.axes.items()},
        "input_size": plan.input_size,
        "forget_bias": plan.forget_bias,
        "nets": plan.nets,
        "seed": settings.seed,
        "probe": {"kind": probe.kind, "batch": probe.batch, "scale": probe.scale, "digest": _digest(probe.array)},
        "lag": settings.lag,
        "draws": settings.draws,
        "measured_in": settings.dtype,
        "thresholds": {name: getattr(settings.thresholds, name) for name in settings.thresholds.__slots__},
    }


def _digest(array: torch.Tensor | None) -> str | None:
    if array is None:
        return None
    import hashlib

    return hashlib.sha256(array.contiguous().numpy().tobytes()).hexdigest()


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _NetPool:
    """Measures nets that are not known yet in a pool of threads, and stores the results."""

    def __init__(self, plan: Plan, known: dict[Key, NetMeasure], log: Log | None, workers: int) -> None:
        self._plan, self._known, self._log, self._workers = plan, known, log, workers

    def measure(self, wanted: Sequence[Key], report: Callable[[Sequence[MeasuredNet]], None] | None = None) -> None:
        """Measure the nets that are not known yet; after an interrupt, also keep the batches that finish soon."""
        missing = [key for key in wanted if key not in self._known]
        if not missing:
            return
        pool = ThreadPoolExecutor(self._workers, initializer=partial(torch.set_num_threads, 1))
        with measuring(0, device_of(self._plan.settings)):
            at_work = {pool.submit(self._batch, batch) for batch in self._plan.batches(missing)}
            try:
                for done in as_completed(at_work):
                    at_work.discard(done)
                    self._keep(done)
                    if report is not None:
                        report(done.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for done in wait(at_work, END_SECONDS).done:
                    if not done.cancelled() and done.exception() is None:
                        self._keep(done)
                raise
            pool.shutdown()

    def _batch(self, batch: Sequence[Key]) -> list[MeasuredNet]:
        plan, condition = self._plan, batch[0][0]
        nets = [plan.net(each, seed) for each, seed in batch]
        measures = measure_nets(nets, plan.driven_by(condition), plan.lag(condition), plan.settings)
        return list(zip(batch, measures, strict=True))

    def _keep(self, done: Future[list[MeasuredNet]]) -> None:
        measured = done.result()
        if self._log is not None:
            self._log.add(measured)
        self._known.update(measured)


class _Tally:
    """Counts points whose nets are all known."""

    def __init__(self, progress: Progress, grid: Sequence[Condition], missing: Sequence[Key]) -> None:
        self._progress, self._total = progress, len(grid)
        self._missing = Counter(condition for condition, _ in missing)

    def __call__(self, measured: Sequence[MeasuredNet]) -> None:
        self._missing.subtract(Counter(condition for (condition, _), _ in measured))
        self._missing = +self._missing
        self._progress("points", self._total - len(self._missing), self._total)


def _notes(plan: Plan, grid: Sequence[Condition]) -> tuple[str, ...]:
    resting = sum(plan.at_rest(condition) for condition in grid)
    if not resting:
        return ()
    which = "every point" if resting == len(grid) else f"{resting} of {len(grid)} points"
    there = ", where J_t = W_hh, however unstable that is" if plan.axes["cell"] == ("tanh",) else ""
    return (
        f"{which}: without input and bias the state rests at zero{there}; to see a net run free, start it with "
        "--probe impulse and an input scale above 0",
    )
