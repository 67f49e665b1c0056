"""``rnndiag check``: the gate for CI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.measuring import measure_paths
from rnndiag.cli.output import emit, parse_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.report import Report

FAILED = 1

FailOn = Annotated[
    Literal["error", "warning", "info", "never"] | None,
    typer.Option(
        "--fail-on",
        show_default="error",
        rich_help_panel="Rules",
        help="Exit with 1 if a finding is at least so severe.",
    ),
]


ShowConfig = Annotated[
    bool,
    typer.Option("--show-config", rich_help_panel="Rules", help="Print what is in force and from where, and stop."),
]


def check(
    paths: opt.Paths = None,
    length: opt.Length = None,
    lag: opt.Lag = None,
    batch: opt.Batch = None,
    seed: opt.Seed = None,
    probe: opt.ProbeSpec = None,
    scale: opt.Scale = None,
    layer: opt.Layer = None,
    nonlinearity: opt.Nonlinearity = None,
    exponents: opt.Exponents = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    config: opt.Config = None,
    select: opt.Select = None,
    ignore: opt.Ignore = None,
    fail_on: FailOn = None,
    show_config: ShowConfig = False,
    formats: opt.Format = None,
    output: opt.Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """The gate for CI: a line a model and each finding; exits with 1 at or above --fail-on."""
    chosen = choose(locals(), config)
    del verbose  # of bugs' tracebacks only, which the caller shows
    targets = parse_targets(formats or (), output)
    if show_config:
        from rich.console import Console

        from rnndiag.cli.show_config import config_table

        Console(highlight=False, markup=False).print(config_table(chosen))
        return 0
    from rnndiag.renderers import lines

    reports, code = measure_paths(chosen, quiet=quiet)
    emit(targets, reports, table=lines.render, quiet=quiet)
    return max(code, FAILED if fails(reports, chosen["fail_on"]) else 0)


def fails(reports: Sequence[Report], fail_on: str) -> bool:
    """Whether a finding is at or above a severity."""
    from rnndiag.rules import SEVERITIES

    if fail_on == "never":
        return False
    counting = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return any(finding.severity in counting for report in reports for finding in report.findings)
