"""Measures the models of a command, and goes on after a model that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rnndiag.cli.inputs import Input, module_files
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.paths import STDIN, UnfoundError, expand
from rnndiag.cli.progress import count_bar, progress_bar
from rnndiag.cli.stderr import print_error, print_failure, print_note, user_traceback
from rnndiag.cli.streams import is_read
from rnndiag.errors import CheckpointError, RnndiagError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rnndiag.cli.choices import Choices
    from rnndiag.cli.destinations import Destination
    from rnndiag.cli.fleet import Fleet
    from rnndiag.cli.options import FleetOptions, ModelOptions, OutputOptions
    from rnndiag.cli.output import Outputs, Target
    from rnndiag.fleet.job import Failure, Job
    from rnndiag.fleet.run import Outcome
    from rnndiag.report import Report

INTERRUPTED = 130

Each = Callable[[int, "Report"], "Report"]
"""Gets the index of a path and its report, and returns the report to return and stream."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of the paths of a command."""

    reports: list[Report]
    """the reports of the files that could be read, in the order given; empty if all formats are streamed"""
    code: int
    """the largest exit code of the files that could not be read, or that of an interrupt; 0 without both"""
    several: bool
    """whether more than one file was asked for"""
    interrupted: bool = False
    streamed: tuple[Path, ...] = ()
    """the file to which results were written as they finished; empty after an interrupt, when it is not complete"""
    skipped: frozenset[str] = frozenset()
    """files in folders and patterns that are not models"""
    failed: int = 0
    """models without a report, each of which has an error on stderr"""


@dataclass(frozen=True, slots=True)
class ModelRun:
    """The models of a command, how they are measured, and where the results go. ``checked`` makes it."""

    chosen: Choices
    models: tuple[str | UnfoundError, ...]
    imported: str | None
    """the user's own factory"""
    fleet: Fleet
    outputs: Outputs
    verbose: bool
    """whether tracebacks of bugs and of the user's own code are shown"""

    @classmethod
    def checked(
        cls,
        chosen: Choices,
        models: ModelOptions,
        output: OutputOptions,
        fleet: FleetOptions,
        *,
        reads: Sequence[Path] = (),
        writes: Sequence[Destination] = (),
    ) -> ModelRun:
        """Find the models, and check every option and file before the work starts.

        Args:
            chosen: the settings in force.
            models: the models, of which ``chosen`` has the paths.
            output: where the reports go.
            fleet: where the models are measured.
            reads: other files that the command reads.
            writes: other files that the command writes.

        Raises:
            SettingsError: for options that do not go together, or if neither a path nor code is given.
            OutputError: for a file or folder that cannot be written, or must not be.
        """
        requested = requested_models(chosen, models.imported)
        inputs: list[Input] = [path for path in requested if isinstance(path, str)]
        inputs += [*chosen.input_files, *([] if models.imported is None else module_files(models.imported)), *reads]
        outputs = output.checked(inputs, also=writes, resume=fleet.resume)
        checked = fleet.checked(outputs.targets, models.imported)
        return cls(chosen, requested, models.imported, checked, outputs, output.verbose)

    def measure(self, each: Each | None = None, *, each_digest: str = "") -> Measured:
        """Measure the files found, or what the user's own code makes, with each PATH if there are any.

        A file that cannot be read is reported, and the other files are still measured. After an interrupt, the
        finished results are still returned.

        Args:
            each: gets every report, including those of an earlier run. If it raises an error of rnndiag, the path
                fails. None: the reports are only written, so the run ends as soon as nobody reads the output any more.
            each_digest: a digest of what the reports of ``each`` depend on; lines of another digest are not continued.
        """
        interrupts = Interrupts()
        if self.imported is not None:
            outcomes = from_factory(self.imported, self.models, self.chosen, interrupts, quiet=self.outputs.quiet)
            return self._collect(outcomes, interrupts, each, several=len(self.models) > 1)
        paths, job = self.chosen.values.paths, _job(self.chosen, self.fleet)
        outcomes = from_files(self.models, job, self.fleet, interrupts, quiet=self.outputs.quiet)
        measured = self._collect(
            outcomes,
            interrupts,
            each,
            several=len(paths) > 1 or len(self.models) > 1,
            conditions=_combined(job.conditions, each_digest),
            named=frozenset(paths),
        )
        return replace(measured, code=max(measured.code, _without_models(paths, measured.skipped)))

    def deliver(
        self,
        measured: Measured,
        table: Callable[[Sequence[Report]], RenderableType],
        *,
        brief: Callable[[], None] | None = None,
        also: Sequence[Path] = (),
    ) -> None:
        """Write the reports where they are wanted as a whole; after an interrupt, no file is written.

        Args:
            measured: the reports.
            table: makes what rich prints for people.
            brief: prints a short text where no format goes to stdout; None: nothing.
            also: other files that were written.

        Raises:
            OutputError: for the first file that could not be written, after all others were.
        """
        targets = tuple(each for each in self.fleet.rest if each.file is None or not measured.interrupted)
        outputs = replace(self.outputs, targets=targets)
        files = [*measured.streamed, *also]
        outputs.deliver_reports(measured.reports, table, several=measured.several, brief=brief, also=files)

    def _collect(
        self,
        outcomes: Generator[Outcome],
        interrupts: Interrupts,
        each: Each | None,
        *,
        several: bool,
        conditions: str = "",
        named: frozenset[str] = frozenset(),
    ) -> Measured:
        """Process the outcomes; the files at ``named`` paths must be models."""
        from rnndiag.fleet.job import Failure
        from rnndiag.fleet.lines import line

        kept: dict[int, Report] = {}
        skipped: set[str] = set()
        code, failed, streamed = 0, 0, not self.fleet.resume
        only_stream = None if each is not None or self.fleet.keeps else self.fleet.stream
        try:
            with self.fleet.lines(conditions) as write, interrupts.active(), closing(outcomes):
                for outcome in outcomes:
                    result = outcome.result
                    if interrupts.asked and isinstance(result, Failure):
                        continue  # an interrupted measurement may fail in any way
                    if not isinstance(result, Failure) and each is not None:
                        try:
                            result = each(outcome.index, result)
                        except RnndiagError as error:
                            result = Failure(str(error), error.exit_code)
                    if isinstance(result, Failure) and _may_be_skipped(outcome.path, result, named):
                        print_note(f"skipped {outcome.path}: {result.not_a_model}")
                        skipped.add(outcome.path)
                        continue
                    if isinstance(result, Failure):
                        print_failure(result, verbose=self.verbose)
                        code, failed = max(code, result.code), failed + 1
                    elif self.fleet.keeps:
                        kept[outcome.index] = result
                        interrupts.holds_results = True
                    if write is not None and not outcome.known:
                        write(line(outcome.path, result, conditions))
                        streamed = True
                    if only_stream is not None and not _is_wanted(only_stream):
                        break
                with interrupts.waiting():
                    pass  # for a Ctrl-C that came with the last outcome
        except KeyboardInterrupt:
            code = INTERRUPTED
        interrupted = code == INTERRUPTED
        files = self.fleet.streamed_files if streamed and not interrupted else ()
        reports = [kept[index] for index in sorted(kept)]
        return Measured(reports, code, several, interrupted, files, frozenset(skipped), failed)


def requested_models(chosen: Choices, imported: str | None) -> tuple[str | UnfoundError, ...]:
    """The models of a command: its paths expanded, or as they are if the user's own code takes them.

    Raises:
        SettingsError: if neither a path nor code is given.
    """
    if imported is None:
        return tuple(expand(chosen.paths))
    # Paths of a config file are those of saved models, which no option asks to be handed to code.
    return tuple(chosen.values.paths) if chosen.origins["paths"] == "--paths" else ()


def unchanged(index: int, report: Report) -> Report:
    """The report itself, whatever the index of its path."""
    del index
    return report


def _job(chosen: Choices, fleet: Fleet) -> Job:
    from rnndiag.fleet.job import Job

    probe, settings, policy, answers = chosen.probe, chosen.settings, chosen.policy, chosen.answers
    cache = None if fleet.cache is None else fleet.cache.absolute()  # the processes may have another working directory
    return Job(probe, settings, policy, answers, cache)


def from_factory(
    spec: str, paths: Sequence[str | UnfoundError], chosen: Choices, interrupts: Interrupts, *, quiet: bool
) -> Generator[Outcome]:
    """The outcomes of the models that the user's own factory makes, one after the other."""
    from rnndiag.cli.imported import load_factory
    from rnndiag.fleet.job import Failure
    from rnndiag.fleet.run import Outcome

    factory = load_factory(spec)
    for index, path in enumerate([str(path) for path in paths] or [None]):
        try:
            with progress_bar(path or "model", quiet=quiet) as progress, interrupts.waiting():
                result: Report | Failure = factory.measure(path, chosen=chosen, progress=progress)
        except RnndiagError as error:
            result = Failure(str(error), error.exit_code, user_traceback(error))
        yield Outcome(index, path or spec, result)


def from_files(
    found: Sequence[str | UnfoundError], job: Job, fleet: Fleet, interrupts: Interrupts, *, quiet: bool
) -> Generator[Outcome]:
    """The outcomes of saved models, as they finish.

    Raises:
        RnndiagError: an error that ends the run, such as a scheduler that does not answer.
    """
    from rnndiag.fleet.job import Failure, attempt
    from rnndiag.fleet.run import Outcome

    quiet = quiet or fleet.at_terminal
    done = set()
    if fleet.resume:
        for outcome in _earlier_outcomes(found, fleet, interrupts):
            done.add(outcome.index)
            yield outcome
    todo: list[int] = []
    for index, path in enumerate(found):
        if isinstance(path, UnfoundError):
            failure = Failure(str(path), path.exit_code, not_a_model=path.left_out, is_doubtful=True)
            yield Outcome(index, path.path, failure)
        elif index not in done:
            todo.append(index)
    # If the options ask for processes, a model that crashes ends one of them, not this process.
    alone = len(todo) == 1 and fleet.workers == 1 and fleet.scheduler is None
    for index in todo:
        path = str(found[index])
        if alone or path == STDIN:  # only this process has stdin
            with progress_bar(path, quiet=quiet) as progress, interrupts.waiting():
                result = attempt(job, path, progress)
            yield Outcome(index, path, result)
    todo = [index for index in todo if not alone and found[index] != STDIN]
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
    """Yield ``run.measure`` with the executor that the options ask for."""
    from rnndiag.fleet import executors
    from rnndiag.fleet.run import measure

    measuring = partial(measure, waiting=interrupts.waiting)
    if fleet.scheduler is not None:
        with ExitStack() as stack:
            with interrupts.waiting():  # a scheduler may take long to answer
                executor, slots = stack.enter_context(executors.cluster(fleet.scheduler))
            yield partial(measuring, executor=executor, slots=slots, locate=_absolute)
    elif fleet.workers > 1:
        workers = min(fleet.workers, models)
        from rnndiag.fleet.processes import processes

        with processes(workers) as pool:
            yield partial(measuring, executor=pool, slots=workers)
    else:
        yield partial(measuring, executor=executors.InProcess(), max_paths=1)


def _absolute(path: str) -> str:
    """A path for processes in another working directory."""
    return path if "://" in path else os.path.abspath(path)  # noqa: PTH100  # Path.absolute() leaves ".." in it


def _earlier_outcomes(found: Sequence[str | UnfoundError], fleet: Fleet, interrupts: Interrupts) -> Iterator[Outcome]:
    """The outcomes for these paths in the file of an earlier run."""
    from rnndiag.fleet.lines import stored_reports
    from rnndiag.fleet.run import Outcome

    assert fleet.stream is not None  # FleetOptions.checked() has looked
    assert fleet.stream.file is not None
    places = {path: index for index, path in enumerate(found) if not isinstance(path, UnfoundError)}
    lines = stored_reports(fleet.stream.file)
    while True:
        with interrupts.waiting():
            line = next(lines, None)
        if line is None:
            return
        path, report = line
        if path in places:
            yield Outcome(places[path], path, report, known=True)


def _may_be_skipped(path: str, failure: Failure, named: frozenset[str]) -> bool:
    """Whether a file that is not a model is skipped.

    Of several named paths, some come from a pattern that the shell replaced. State of a training run next to models is
    skipped there too; a file without any tensor is not.
    """
    from rnndiag.checkpoint.formats.registry import SUFFIXES
    from rnndiag.checkpoint.unpickling.auxiliary import SETTINGS

    if not failure.not_a_model or named == {path}:
        return False
    if path in named:
        return failure.not_a_model != SETTINGS and not failure.is_doubtful
    return not (failure.is_doubtful and path.endswith(SUFFIXES))


def _is_wanted(stream: Target) -> bool:
    """Whether somebody still reads the results."""
    return stream.file is not None or is_read()


def _without_models(paths: Sequence[str], skipped: frozenset[str]) -> int:
    """Report each folder and pattern of which every file was skipped, and return the exit code."""
    code = 0
    for path in paths if skipped else ():
        if path in skipped and not skipped.issuperset(paths):
            continue
        found = [each for each in expand([path]) if isinstance(each, str)]
        if found and skipped.issuperset(found):
            files = "its only file was" if len(found) == 1 else f"all {len(found)} files were"
            print_error(f"{path}: no model to measure: {files} skipped")
            code = CheckpointError.exit_code
    return code


def _combined(conditions: str, each_digest: str) -> str:
    if not each_digest:
        return conditions
    import hashlib

    return hashlib.sha256(f"{conditions} {each_digest}".encode()).hexdigest()[: len(conditions)]
