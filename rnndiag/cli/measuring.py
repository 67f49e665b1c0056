"""What inspect and check share: measure each path, and go on after one that cannot be read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnndiag.cli.paths import expand
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import CheckpointError, RnndiagError

if TYPE_CHECKING:
    from rnndiag.cli.choices import Choices
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


def measure_paths(chosen: Choices, *, quiet: bool) -> Measured:
    """Measure each file; one that cannot be read is reported, and the rest are still measured."""
    from rnndiag import api

    paths, probe, settings, policy, maps = chosen.paths, chosen.probe, chosen.settings, chosen.policy, chosen.maps
    reports: list[Report] = []
    code = 0
    files = list(expand(paths))
    for path in files:
        try:
            if isinstance(path, CheckpointError):
                raise path
            with progress_bar(path, quiet=quiet) as progress:
                reports.append(
                    api.inspect(
                        path,
                        probe=probe,
                        nonlinearity=chosen["nonlinearity"],
                        mapping=maps,
                        settings=settings,
                        policy=policy,
                        progress=progress,
                    )
                )
        except RnndiagError as error:
            complain(str(error))
            code = max(code, error.exit_code)
    return Measured(reports, code, len(files) > 1 or len(paths) > 1)


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print("rnndiag: error:", " ".join(message.split()), file=sys.stderr)
