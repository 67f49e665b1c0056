"""Measure many models: tasks out, results in as they finish, nothing lost and nothing twice."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from rnndiag.errors import RnndiagError, describe_error
from rnndiag.fleet.job import BUG, Failure, Work
from rnndiag.fleet.task import Results, run_task
from rnndiag.printable import message_line

if TYPE_CHECKING:
    from rnndiag.report import Report

TASKS_A_SLOT = 2
"""Tasks out for each that can run at once: one runs, the next waits beside it."""

MOST_PATHS = 16
"""Of a task: what a task costs beside its work is then small even where the work is a look into the cache."""

ROUNDS = 32
"""Tasks for each slot, at least: so that all slots end at about the same time, a task has few paths where few are."""

LOOK_SECONDS = 1.0
"""After which a wait looks up: on Windows nothing interrupts one."""

Indexed = list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one path."""

    index: int
    """among the paths given"""
    path: str
    """as it was given"""
    result: Report | Failure
    known: bool = False
    """whether it is of an earlier run"""


def measure(
    paths: Sequence[str],
    work: Work,
    executor: Executor,
    *,
    slots: int = 1,
    most_paths: int = MOST_PATHS,
    locate: Callable[[str], str] = str,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Outcome]:
    """Each path's outcome, as it is known: one for each, whatever becomes of the processes.

    At most ``TASKS_A_SLOT`` tasks a slot are out, so memory does not grow with the number of paths. A task whose
    process dies, or that the executor gives up, is done again at the end, each of its paths by itself with nothing
    else out: one that brings its process down again is at fault, and its outcome says so.

    An interrupt (Ctrl-C) yields what has finished, and is raised again. With ``waiting`` the caller can hold it back
    while an outcome is in hand.

    Args:
        paths: of the models.
        work: what is done with each.
        executor: any of ``concurrent.futures``' kind; one that breaks must accept tasks again.
        slots: tasks that it can run at once.
        most_paths: of a task.
        locate: a path as the executor's processes are to read it.
        waiting: entered wherever the executor is waited for.

    Raises:
        RnndiagError: which ends the run, such as a scheduler that has gone.
    """
    packed = pickle.dumps(work)
    share = min(most_paths, max(1, len(paths) // (slots * ROUNDS)))
    todo = _batches(paths, share)
    out: dict[Future[Results], Indexed] = {}
    finished: SimpleQueue[Future[Results]] = SimpleQueue()
    suspects: list[Indexed] = []

    def send(task: Indexed) -> None:
        with waiting():
            future = executor.submit(run_task, packed, [locate(path) for _, path in task])
        out[future] = task
        future.add_done_callback(finished.put)

    def next_finished() -> Future[Results]:
        while True:
            with waiting(), suppress(Empty):
                return finished.get(timeout=LOOK_SECONDS)

    def settled(future: Future[Results], *, again: bool) -> Iterator[Outcome]:
        task = out.pop(future)
        lost = _lost(future)
        if lost is None:
            for (index, path), result in zip(task, future.result(), strict=True):
                yield Outcome(index, path, _as_given(result, locate(path), path))
        elif again:
            suspects.extend([each] for each in task)
        else:
            for index, path in task:
                yield Outcome(index, path, Failure(f"{path}: {lost}", BUG))

    try:
        more = True
        while more or out:
            while more and len(out) < TASKS_A_SLOT * slots and finished.empty():
                task = next(todo, None)
                more = task is not None
                if task is not None:
                    send(task)
            if out:
                yield from settled(next_finished(), again=True)
        while suspects:
            send(suspects.pop())
            yield from settled(next_finished(), again=False)
    except KeyboardInterrupt:
        for future in [each for each in out if each.done()]:
            yield from settled(future, again=True)
        raise


def _batches(paths: Sequence[str], size: int) -> Iterator[Indexed]:
    for start in range(0, len(paths), size):
        yield list(enumerate(paths[start : start + size], start))


def _lost(future: Future[Results]) -> str | None:
    """Why a task has no results; None if it has.

    Raises:
        RnndiagError: of the task, which ends the run.
    """
    if future.cancelled():
        return "was given up by the scheduler, twice"
    error = future.exception()
    if isinstance(error, RnndiagError):
        raise error
    return (
        None
        if error is None
        else f"its process died, twice, the second time with nothing beside it: {describe_error(error)}"
    )


def _as_given(result: Report | Failure, located: str, path: str) -> Report | Failure:
    if located == path:
        return result
    if isinstance(result, Failure):
        return replace(result, message=result.message.replace(message_line(located), message_line(path)))
    return replace(result, source=replace(result.source, path=path))
