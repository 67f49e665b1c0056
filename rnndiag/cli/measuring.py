"""What inspect and check share: measure each path, and go on after one that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rnndiag.cli.paths import expand
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import CheckpointError, RnndiagError

if TYPE_CHECKING:
    from rnndiag.config import Settings
    from rnndiag.probes import Probe
    from rnndiag.report import Report
    from rnndiag.rules.policy import Policy


def measure_paths(
    paths: Sequence[str],
    *,
    probe: Probe,
    nonlinearity: Literal["tanh", "relu"] | None,
    settings: Settings,
    policy: Policy,
    quiet: bool,
) -> tuple[list[Report], int]:
    """A report for each file that can be read, and the worst exit code of the others (0: none)."""
    from rnndiag import api

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
                        nonlinearity=nonlinearity,
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
