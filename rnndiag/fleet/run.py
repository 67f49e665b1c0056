"""Measures many models: submits tasks and yields results as they finish, exactly one for each path."""

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

TASKS_PER_SLOT = 2
"""Submitted tasks for each task that can run at once: one task runs, and the next task waits."""

MAX_PATHS_PER_TASK = 16
"""Paths of one task. The overhead of a task is then small even if its work is only to read from the cache."""

MIN_TASKS_PER_SLOT = 32
"""With few paths, a task gets fewer paths, so that all slots end at about the same time."""

POLL_SECONDS = 1.0
"""A wait is repeated after this time, because nothing interrupts a wait on Windows."""

Indexed = list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one path."""

    index: int
    """the index among the given paths"""
    path: str
    """the path as it was given"""
    result: Report | Failure
    known: bool = False
    """whether an earlier run measured it"""


def measure(
    paths: Sequence[str],
    work: Work,
    executor: Executor,
    *,
    slots: int = 1,
    max_paths: int = MAX_PATHS_PER_TASK,
    locate: Callable[[str], str] = str,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Outcome]:
    """Yield one outcome for each path as it finishes, whatever happens to the processes.

    At most ``TASKS_PER_SLOT`` tasks per slot are submitted, so memory does not grow with the number of paths. If the
    process of a task dies, or if the executor gives the task up, each of its paths is measured again at the end, with
    no other task running. A path that ends its process a second time is at fault, and its outcome says so.

    After an interrupt (Ctrl-C), the finished outcomes are yielded, and the interrupt is raised again. With ``waiting``,
    the caller can delay the interrupt while it processes an outcome.

    Args:
        paths: the paths of the models.
        work: is done with each path.
        executor: any executor of ``concurrent.futures``; after it breaks, it must accept tasks again.
        slots: the number of tasks that the executor can run at once.
        max_paths: the largest number of paths in a task.
        locate: returns the path by which the executor's processes read a file.
        waiting: a context that is entered wherever this function waits for the executor.

    Raises:
        RnndiagError: an error that ends the run, such as a scheduler that has gone.
    """
    packed = pickle.dumps(work)
    share = min(max_paths, max(1, len(paths) // (slots * MIN_TASKS_PER_SLOT)))
    todo = _batches(paths, share)
    pending: dict[Future[Results], Indexed] = {}
    finished: SimpleQueue[Future[Results]] = SimpleQueue()
    suspects: list[Indexed] = []

    def submit(task: Indexed) -> None:
        with waiting():
            future = executor.submit(run_task, packed, [locate(path) for _, path in task])
        pending[future] = task
        future.add_done_callback(finished.put)

    def next_finished() -> Future[Results]:
        while True:
            with waiting(), suppress(Empty):
                return finished.get(timeout=POLL_SECONDS)

    def outcomes_of(future: Future[Results], *, again: bool) -> Iterator[Outcome]:
        task = pending.pop(future)
        lost = _reason_lost(future)
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
        while more or pending:
            while more and len(pending) < TASKS_PER_SLOT * slots and finished.empty():
                task = next(todo, None)
                more = task is not None
                if task is not None:
                    submit(task)
            if pending:
                yield from outcomes_of(next_finished(), again=True)
        while suspects:
            submit(suspects.pop())
            yield from outcomes_of(next_finished(), again=False)
    except KeyboardInterrupt:
        for future in [each for each in pending if each.done()]:
            yield from outcomes_of(future, again=True)
        raise


def _batches(paths: Sequence[str], size: int) -> Iterator[Indexed]:
    for start in range(0, len(paths), size):
        yield list(enumerate(paths[start : start + size], start))


def _reason_lost(future: Future[Results]) -> str | None:
    """Why a task has no results; None if it has.

    Raises:
        RnndiagError: an error of the task that ends the run.
    """
    if future.cancelled():
        return "was given up by the scheduler, twice"
    error = future.exception()
    if isinstance(error, RnndiagError):
        raise error
    return (
        None
        if error is None
        else f"its process died, twice, the second time with no other model in the pool: {describe_error(error)}"
    )


def _as_given(result: Report | Failure, located: str, path: str) -> Report | Failure:
    if located == path:
        return result
    if isinstance(result, Failure):
        return replace(result, message=result.message.replace(message_line(located), message_line(path)))
    return replace(result, source=replace(result.source, path=path))
