"""Where the outcomes of a command's paths come from: the user's own code, an earlier run, this process, many others."""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rnndiag.cli.imported import load_factory
from rnndiag.cli.paths import UnfoundError
from rnndiag.cli.progress import count_bar, progress_bar
from rnndiag.errors import ModelError, RnndiagError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnndiag.cli.choices import Choices
    from rnndiag.cli.fleet import Fleet
    from rnndiag.cli.interrupts import Interrupts
    from rnndiag.fleet.job import Failure, Job
    from rnndiag.fleet.run import Outcome
    from rnndiag.report import Report


def made(
    spec: str, paths: Sequence[str | UnfoundError], chosen: Choices, interrupts: Interrupts, *, quiet: bool
) -> Generator[Outcome]:
    """The models that the user's own factory makes, one after the other."""
    from rnndiag.fleet.job import Failure
    from rnndiag.fleet.run import Outcome

    factory = load_factory(spec)
    for index, path in enumerate([str(path) for path in paths] or [None]):
        try:
            with progress_bar(path or "model", quiet=quiet) as progress, interrupts.waiting():
                result: Report | Failure = factory.measure(path, chosen=chosen, progress=progress)
        except RnndiagError as error:
            result = Failure(str(error), error.exit_code, behind(error))
        yield Outcome(index, path or spec, result)


def read(
    found: Sequence[str | UnfoundError], job: Job, fleet: Fleet, interrupts: Interrupts, *, quiet: bool
) -> Generator[Outcome]:
    """Saved models, each once; in the order in which they are known.

    Raises:
        RnndiagError: which ends the run, such as a scheduler that does not answer.
    """
    from rnndiag.fleet.job import Failure, attempt
    from rnndiag.fleet.run import Outcome

    quiet = quiet or fleet.at_terminal
    done = set()
    if fleet.resume:
        for outcome in _known(found, fleet, interrupts):
            done.add(outcome.index)
            yield outcome
    todo: list[int] = []
    for index, path in enumerate(found):
        if isinstance(path, UnfoundError):
            yield Outcome(index, path.path, Failure(str(path), path.exit_code))
        elif index not in done:
            todo.append(index)
    # Where processes are asked for, one is taken down by a model in place of this one.
    alone = len(todo) == 1 and fleet.workers == 1 and fleet.scheduler is None
    for index in todo:
        path = str(found[index])
        if alone or path == "-":  # what comes through stdin comes to this process
            with progress_bar(path, quiet=quiet) as progress, interrupts.waiting():
                result = attempt(job, path, progress)
            yield Outcome(index, path, result)
    todo = [index for index in todo if not alone and found[index] != "-"]
    if todo:
        paths = [str(found[index]) for index in todo]
        with _executor(fleet, len(paths), interrupts) as measured, count_bar(len(paths), quiet=quiet) as count:
            for outcome in measured(paths, job):
                count()
                yield Outcome(todo[outcome.index], outcome.path, outcome.result)


@contextmanager
def _executor(
    fleet: Fleet, models: int, interrupts: Interrupts
) -> Iterator[Callable[[Sequence[str], Job], Iterator[Outcome]]]:
    """``run.measure`` with the executor that is asked for."""
    from rnndiag.fleet import executors
    from rnndiag.fleet.run import measure

    measuring = partial(measure, waiting=interrupts.waiting)
    if fleet.scheduler is not None:
        with ExitStack() as stack:
            with interrupts.waiting():  # a scheduler takes its time to answer, or not to
                executor, slots = stack.enter_context(executors.cluster(fleet.scheduler))
            yield partial(measuring, executor=executor, slots=slots, locate=_absolute)
    elif fleet.workers > 1:
        workers = min(fleet.workers, models)
        from rnndiag.fleet.processes import processes

        with processes(workers) as pool:
            yield partial(measuring, executor=pool, slots=workers)
    else:
        yield partial(measuring, executor=executors.InProcess(), most_paths=1)


def _absolute(path: str) -> str:
    """A path for processes that stand in another folder."""
    return path if "://" in path else os.path.abspath(path)  # noqa: PTH100  # Path.absolute() leaves ".." in it


def _known(found: Sequence[str | UnfoundError], fleet: Fleet, interrupts: Interrupts) -> Iterator[Outcome]:
    """What the file of an earlier run holds of these paths."""
    from rnndiag.fleet.lines import known
    from rnndiag.fleet.run import Outcome

    assert fleet.stream is not None  # settle() has looked
    assert fleet.stream.file is not None
    places = {path: index for index, path in enumerate(found) if not isinstance(path, UnfoundError)}
    lines = known(fleet.stream.file)
    while True:
        with interrupts.waiting():
            line = next(lines, None)
        if line is None:
            return
        path, report = line
        if path in places:
            yield Outcome(places[path], path, report, known=True)


def behind(error: RnndiagError) -> str:
    """The traceback of the user's own code; empty where none of it is behind the error."""
    if not isinstance(error, ModelError) or error.__cause__ is None:
        return ""
    return "".join(traceback.format_exception(error.__cause__))
