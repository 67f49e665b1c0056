"""What inspect and check share: measure each model, and go on after one that cannot be read."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnndiag.cli.fleet import Fleet
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.outcomes import behind, made, read
from rnndiag.cli.paths import UnfoundError
from rnndiag.errors import RnndiagError

if TYPE_CHECKING:
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

    def shown(self, targets: Sequence[Target]) -> list[Target]:
        """Those targets that are written: after an interrupt no file, which is whole or not written."""
        return [target for target in targets if target.file is None or not self.interrupted]


def measure_models(
    chosen: Choices,
    found: Sequence[str | UnfoundError],
    *,
    imported: str | None,
    quiet: bool,
    verbose: bool,
    fleet: Fleet | None = None,
    each: Callable[[int, Report], Report] = lambda index, report: report,
    held_to: str = "",
) -> Measured:
    """Measure the files found, or what the user's own code makes (``imported``, with each PATH if there are any).

    One that cannot be read is reported, and the rest are still measured; ``verbose`` shows the tracebacks of bugs and
    of the user's own code. After an interrupt, what is measured is still returned.

    Args:
        chosen: what is in force.
        found: what ``paths.asked_for`` made of it.
        imported: the user's own factory.
        quiet: no progress bar.
        verbose: tracebacks.
        fleet: where it is measured, and what becomes of the results meanwhile.
        each: makes of a path's place and report what is returned and streamed; sees every report, also those of an
            earlier run. What it raises of rnndiag's own errors is that path's failure.
        held_to: a digest of what ``each`` makes depends on; lines under another are not gone on with.
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
    return _gathered(
        outcomes, interrupts, fleet, each, verbose=verbose, several=several, conditions=_joint(job.conditions, held_to)
    )


def _gathered(
    outcomes: Generator[Outcome],
    interrupts: Interrupts,
    fleet: Fleet,
    each: Callable[[int, Report], Report],
    *,
    verbose: bool,
    several: bool,
    conditions: str = "",
) -> Measured:
    from rnndiag.fleet.job import Failure
    from rnndiag.fleet.lines import line

    kept: dict[int, Report] = {}
    code = 0
    try:
        with fleet.lines(conditions) as write, interrupts.active(), closing(outcomes):
            for outcome in outcomes:
                result = outcome.result
                if interrupts.asked and isinstance(result, Failure):
                    continue  # an interrupted measurement may fail in any way
                if not isinstance(result, Failure):
                    try:
                        result = each(outcome.index, result)
                    except RnndiagError as error:
                        result = Failure(str(error), error.exit_code)
                if isinstance(result, Failure):
                    fail(result, verbose=verbose)
                    code = max(code, result.code)
                elif fleet.keeps:
                    kept[outcome.index] = result
                    interrupts.holds_results = True
                if write is not None and not outcome.known:
                    write(line(outcome.path, result, conditions))
            with interrupts.waiting():
                pass  # for one that came with the last outcome in hand
    except KeyboardInterrupt:
        code = INTERRUPTED
    return Measured([kept[index] for index in sorted(kept)], code, several, code == INTERRUPTED)


def _joint(conditions: str, held_to: str) -> str:
    if not held_to:
        return conditions
    return hashlib.sha256(f"{conditions} {held_to}".encode()).hexdigest()[: len(conditions)]


def fail(failure: Failure, *, verbose: bool) -> None:
    """One line on stderr for a path; before it, with ``verbose``, the traceback that is behind it."""
    if verbose and failure.trace:
        sys.stderr.write(failure.trace)
    complain(failure.message)


def refuse(error: RnndiagError, *, verbose: bool) -> None:
    """One line on stderr; before it, with ``verbose``, the traceback of the user's own code if that is behind it."""
    if verbose:
        sys.stderr.write(behind(error))
    complain(str(error))


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print("rnndiag: error:", " ".join(message.split()), file=sys.stderr)
