"""What inspect and check share: measure each model, and go on after one that cannot be read."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rnndiag.cli.imported import load_factory
from rnndiag.cli.paths import expand
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import CheckpointError, ModelError, RnndiagError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rnndiag.cli.choices import Choices
    from rnndiag.diagnose import Progress
    from rnndiag.report import Report


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of the paths of a command."""

    reports: list[Report]
    """of the files that could be read"""
    code: int
    """the worst exit code of the others; 0: there are none"""
    several: bool
    """whether more than one file was asked for"""


def measure_models(chosen: Choices, *, imported: str | None, quiet: bool, verbose: bool) -> Measured:
    """Measure the files named, or what the user's own code makes (``imported``, with each PATH if there are any).

    One that cannot be read is reported, and the rest are still measured; ``verbose`` shows the tracebacks of the
    user's own code.
    """
    if imported is not None:
        factory = load_factory(imported)
        # Paths of a config file are those of saved models, which no option asks to be handed to code.
        given = chosen["paths"] if chosen.origins["paths"] == "--paths" else [None]
        return _each(given, partial(factory.measure, chosen=chosen), quiet=quiet, verbose=verbose)
    from rnndiag import api

    paths, probe, settings, policy, maps = chosen.paths, chosen.probe, chosen.settings, chosen.policy, chosen.maps

    def measure(path: str | CheckpointError, *, progress: Progress | None) -> Report:
        if isinstance(path, CheckpointError):
            raise path
        return api.inspect(
            path,
            probe=probe,
            nonlinearity=chosen["nonlinearity"],
            mapping=maps,
            settings=settings,
            policy=policy,
            progress=progress,
        )

    return _each(list(expand(paths)), measure, quiet=quiet, verbose=verbose, several=len(paths) > 1)


def _each(
    models: Sequence[Any], measure: Callable[..., Report], *, quiet: bool, verbose: bool, several: bool = False
) -> Measured:
    reports: list[Report] = []
    code = 0
    for model in models:
        try:
            with progress_bar(str(model or "model"), quiet=quiet) as progress:
                reports.append(measure(model, progress=progress))
        except RnndiagError as error:
            refuse(error, verbose=verbose)
            code = max(code, error.exit_code)
    return Measured(reports, code, several or len(models) > 1)


def refuse(error: RnndiagError, *, verbose: bool) -> None:
    """One line on stderr; before it, with ``verbose``, the traceback of the user's own code if that is behind it."""
    if verbose and isinstance(error, ModelError) and error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    complain(str(error))


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print("rnndiag: error:", " ".join(message.split()), file=sys.stderr)
