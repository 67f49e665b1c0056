"""``rnndiag compare``: what changed between two checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import Choices, choose
from rnndiag.cli.output import check_writable, print_or_write
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import BaselineError

if TYPE_CHECKING:
    from rnndiag.report import Report

Measured = Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint, or a report written by --format json.")]


def compare(
    base: Measured,
    new: Measured,
    length: opt.Length = None,
    lag: opt.Lag = None,
    batch: opt.Batch = None,
    seed: opt.Seed = None,
    probe: opt.ProbeSpec = None,
    scale: opt.Scale = None,
    layer: opt.Layer = None,
    nonlinearity: opt.Nonlinearity = None,
    map: opt.Map = None,  # noqa: A002  # the option is called so
    exponents: opt.Exponents = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    config: opt.Config = None,
    select: opt.Select = None,
    ignore: opt.Ignore = None,
    fail_on: opt.FailOn = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", rich_help_panel="Output")] = "table",
    output: opt.Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """What changed from BASE to NEW, and what of it is significant; exits with 1 on a regression."""
    chosen = choose(locals(), config)
    del verbose  # of bugs' tracebacks only, which the caller shows
    if output is not None:
        check_writable(output, (base, new))
    from rnndiag.baseline import match
    from rnndiag.cli.check import FAILED
    from rnndiag.cli.gate import fails
    from rnndiag.compare import compare as compared
    from rnndiag.renderers import comparison as rendered

    one, two = (_report(path, chosen, quiet=quiet) for path in (base, new))
    result = compared(match(two, [one], base), two)
    shown = rendered.as_json(result) if format_ == "json" else rendered.table(result)
    print_or_write(format_, shown, output, quiet=quiet)
    return FAILED if fails(result.findings.worse, chosen["fail_on"]) else 0


def _report(path: str, chosen: Choices, *, quiet: bool) -> Report:
    from dataclasses import replace

    from rnndiag import api
    from rnndiag.baseline import is_report, read_reports

    if not is_report(Path(path)):
        with progress_bar(path, quiet=quiet) as progress:
            return api.inspect(
                path,
                probe=chosen.probe,
                nonlinearity=chosen["nonlinearity"],
                mapping=chosen.maps,
                settings=replace(chosen.settings, treat=False),  # it shows no suggestions
                policy=chosen.policy,
                progress=progress,
            )
    reports = read_reports(Path(path))
    if len(reports) != 1:
        raise BaselineError(f"{path}: expected one report, got {len(reports)}")
    return reports[0]
