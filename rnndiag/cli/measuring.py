"""What inspect and check share: measure each path, and go on after one that cannot be read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rnndiag.cli.paths import expand
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import CheckpointError, RnndiagError

if TYPE_CHECKING:
    from rnndiag.cli.choices import Choices
    from rnndiag.report import Report


def measure_paths(chosen: Choices, *, quiet: bool) -> tuple[list[Report], int]:
    """A report for each file that can be read, and the worst exit code of the others (0: none)."""
    from rnndiag import api

    paths, probe, settings, policy = chosen.paths, chosen.probe, chosen.settings, chosen.policy
    reports: list[Report] = []
    code = 0
    for path in expand(paths):
        try:
            if isinstance(path, CheckpointError):
                raise path
            with progress_bar(path, quiet=quiet) as progress:
                reports.append(
                    api.inspect(
                        path,
                        probe=probe,
                        nonlinearity=chosen["nonlinearity"],
                        settings=settings,
                        policy=policy,
                        progress=progress,
                    )
                )
        except RnndiagError as error:
            complain(str(error))
            code = max(code, error.exit_code)
    return reports, code


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print("rnndiag: error:", " ".join(message.split()), file=sys.stderr)
