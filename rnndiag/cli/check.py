"""``rnndiag check``: the gate for CI."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import Choices, choose
from rnndiag.cli.measuring import measure_models
from rnndiag.cli.output import check_writable, emit, parse_targets, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rnndiag.report import Report
    from rnndiag.rules.base import Finding

FAILED = 1

ShowConfig = Annotated[
    bool,
    typer.Option("--show-config", rich_help_panel="Rules", help="Print what is in force and from where, and stop."),
]


Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="FILE",
        rich_help_panel="Rules",
        help="Report only what is new or worse than in this report or checkpoint.",
    ),
]
WriteBaseline = Annotated[
    Path | None,
    typer.Option("--write-baseline", metavar="FILE", rich_help_panel="Rules", help="Keep this run's reports there."),
]


def check(
    paths: opt.Paths = None,
    imported: opt.Import = None,
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
    treat: opt.Treat = None,
    fail_on: opt.FailOn = None,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
    show_config: ShowConfig = False,
    formats: opt.Format = None,
    output: opt.Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """The gate for CI: a line a model and each finding; exits with 1 at or above --fail-on."""
    chosen = choose(locals(), config)
    targets = parse_targets(formats or (), output, paths or ())
    if show_config:
        from rich.console import Console

        from rnndiag.cli.show_config import config_table

        Console(highlight=False, markup=False, emoji=False).print(config_table(chosen))
        return 0
    from rnndiag.renderers import lines

    if write_baseline is not None:
        check_writable(write_baseline, paths or ())
    measured = measure_models(chosen, imported=imported, quiet=quiet, verbose=verbose)
    reports = measured.reports
    if write_baseline is not None:
        from rnndiag.renderers.json import render

        write_whole(write_baseline, render(reports, array=measured.several).encode())
    shown = reports if baseline is None else only_worse(reports, baseline, chosen)
    findings = [finding for report in shown for finding in report.findings]
    known = sum(len(report.findings) for report in reports) - len(findings)
    emit(targets, shown, table=partial(lines.render, known=known), several=measured.several, quiet=quiet)
    return max(measured.code, FAILED if fails(findings, chosen["fail_on"]) else 0)


def fails(findings: Iterable[Finding], fail_on: str) -> bool:
    """Whether a finding is at or above a severity."""
    from rnndiag.rules import SEVERITIES

    if fail_on == "never":
        return False
    counting = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return any(finding.severity in counting for finding in findings)


def only_worse(reports: Sequence[Report], baseline: Path, chosen: Choices) -> list[Report]:
    """The reports with those findings that are new or worse beside a baseline.

    Raises:
        BaselineError: for a baseline of another model, measurement or version.
    """
    from dataclasses import replace

    from rnndiag import api
    from rnndiag.baseline import difference, is_report, match, read_reports

    if is_report(baseline) or not baseline.exists():
        old = read_reports(baseline)
    else:
        old = (
            api.inspect(
                baseline,
                probe=chosen.probe,
                nonlinearity=chosen["nonlinearity"],
                settings=replace(chosen.settings, treat=False),  # only what it found counts
                policy=chosen.policy,
            ),
        )
    return [replace(r, findings=difference(match(r, old, str(baseline)), r).worse) for r in reports]
