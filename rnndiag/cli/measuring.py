"""What inspect and check share: measure each model, and go on after one that cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rnndiag.cli.fleet import Fleet
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.outcomes import behind, made, read
from rnndiag.cli.paths import UnfoundError, expand
from rnndiag.cli.streams import is_read, say, say_lines
from rnndiag.errors import CheckpointError, RnndiagError

if TYPE_CHECKING:
    from pathlib import Path

    from rnndiag.cli.choices import Choices
    from rnndiag.cli.output import Target
    from rnndiag.fleet.job import Failure
    from rnndiag.fleet.run import Outcome
    from rnndiag.report import Report

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of the paths of a command."""

    reports: list[Report]
    """of the files that could be read, in the order given; none where all formats are streamed"""
    code: int
    """the worst exit code of the others, or that of an interrupt; 0: there are none"""
    several: bool
    """whether more than one file was asked for"""
    interrupted: bool = False
    streamed: tuple[Path, ...] = ()
    """the file to which results were written as they finished; empty after an interrupt, when it is not complete"""
    skipped: frozenset[str] = frozenset()
    """files in folders and patterns that are not models but were written next to a model"""

    def shown(self, targets: Sequence[Target]) -> list[Target]:
        """Those targets that are written: after an interrupt no file, which is whole or not written."""
        return [target for target in targets if target.file is None or not self.interrupted]


def unchanged(index: int, report: Report) -> Report:
    """The report itself, whatever the index of its path."""
    del index
    return report


def measure_models(
    chosen: Choices,
    found: Sequence[str | UnfoundError],
    *,
    imported: str | None,
    quiet: bool,
    verbose: bool,
    fleet: Fleet | None = None,
    each: Callable[[int, Report], Report] | None = None,
    held_to: str = "",
) -> Measured:
    """Measure the files found, or what the user's own code makes (``imported``, with each PATH if there are any).

    A file that cannot be read is reported, and the other files are still measured. After an interrupt, the finished
    results are still returned.

    Args:
        chosen: the settings in force.
        found: the paths that ``paths.asked_for`` found.
        imported: the user's own factory.
        quiet: no progress bar.
        verbose: show the tracebacks of bugs and of the user's own code.
        fleet: where the files are measured, and where finished results go.
        each: gets the index of a path and its report, and returns the report to return and stream. It gets every
            report, including those of an earlier run. If it raises an error of rnndiag, the path fails. None: the
            reports are only written, so the run ends as soon as nobody reads the output any more.
        held_to: a digest of what the reports of ``each`` depend on; lines with another digest are not continued.
    """
    fleet, interrupts = fleet or Fleet(), Interrupts()
    if imported is not None:
        models = made(imported, found, chosen, interrupts, quiet=quiet)
        return _gathered(models, interrupts, fleet, each, verbose=verbose, several=len(found) > 1)
    from rnndiag.fleet.job import Job

    probe, settings, policy, maps = chosen.probe, chosen.settings, chosen.policy, chosen.maps
    cache = None if fleet.cache is None else fleet.cache.absolute()  # its processes may stand elsewhere
    job = Job(probe, settings, policy, chosen["nonlinearity"], tuple(maps), cache)
    several = len(chosen["paths"]) > 1 or len(found) > 1
    outcomes = read(found, job, fleet, interrupts, quiet=quiet)
    measured = _gathered(
        outcomes,
        interrupts,
        fleet,
        each,
        verbose=verbose,
        several=several,
        conditions=_joint(job.conditions, held_to),
        named=frozenset(chosen["paths"]),
    )
    return replace(measured, code=max(measured.code, _without_models(chosen["paths"], measured.skipped)))


def _gathered(
    outcomes: Generator[Outcome],
    interrupts: Interrupts,
    fleet: Fleet,
    each: Callable[[int, Report], Report] | None,
    *,
    verbose: bool,
    several: bool,
    conditions: str = "",
    named: frozenset[str] = frozenset(),
) -> Measured:
    """Process the outcomes; the files at ``named`` paths must be models."""
    from rnndiag.fleet.job import Failure
    from rnndiag.fleet.lines import line

    kept: dict[int, Report] = {}
    skipped: set[str] = set()
    code, streamed = 0, not fleet.resume
    try:
        with fleet.lines(conditions) as write, interrupts.active(), closing(outcomes):
            for outcome in outcomes:
                result = outcome.result
                if interrupts.asked and isinstance(result, Failure):
                    continue  # an interrupted measurement may fail in any way
                if not isinstance(result, Failure) and each is not None:
                    try:
                        result = each(outcome.index, result)
                    except RnndiagError as error:
                        result = Failure(str(error), error.exit_code)
                if isinstance(result, Failure) and _may_be_skipped(
                    result, alone=named == {outcome.path}, named=outcome.path in named
                ):
                    remark(f"skipped {outcome.path}: {result.not_a_model}")
                    skipped.add(outcome.path)
                    continue
                if isinstance(result, Failure):
                    fail(result, verbose=verbose)
                    code = max(code, result.code)
                elif fleet.keeps:
                    kept[outcome.index] = result
                    interrupts.holds_results = True
                if write is not None and not outcome.known:
                    write(line(outcome.path, result, conditions))
                    streamed = True
                if each is None and not fleet.keeps and fleet.stream is not None and not _is_wanted(fleet.stream):
                    break
            with interrupts.waiting():
                pass  # for one that came with the last outcome in hand
    except KeyboardInterrupt:
        code = INTERRUPTED
    interrupted = code == INTERRUPTED
    files = fleet.streamed_files if streamed and not interrupted else ()
    reports = [kept[index] for index in sorted(kept)]
    return Measured(reports, code, several, interrupted, files, frozenset(skipped))


def _may_be_skipped(failure: Failure, *, alone: bool, named: bool) -> bool:
    """Whether a file that is not a model is skipped.

    Of several named paths, some come from a pattern that the shell replaced. State of a training run next to models is
    skipped there too; a file without any tensor is not.
    """
    from rnndiag.checkpoint.unpickling.auxiliary import SETTINGS

    return bool(failure.not_a_model) and not alone and not (named and failure.not_a_model == SETTINGS)


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
            complain(f"{path}: no model to measure: {files} skipped")
            code = CheckpointError.exit_code
    return code


def _joint(conditions: str, held_to: str) -> str:
    if not held_to:
        return conditions
    return hashlib.sha256(f"{conditions} {held_to}".encode()).hexdigest()[: len(conditions)]


def fail(failure: Failure, *, verbose: bool) -> None:
    """One line on stderr for a path; before it, with ``verbose``, the traceback that is behind it."""
    if verbose and failure.trace:
        say_lines(failure.trace)
    complain(failure.message)


def refuse(error: RnndiagError, *, verbose: bool) -> None:
    """One line on stderr; before it, with ``verbose``, the traceback of the user's own code if that is behind it."""
    if verbose:
        say_lines(behind(error))
    complain(str(error))


def warn(message: str) -> None:
    """Print one line on stderr about something that still works but will stop working in a later release."""
    say(message, "warning")


def remark(message: str) -> None:
    """Print one line on stderr that is not an error."""
    say(message, "note")


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    say(message, "error")
