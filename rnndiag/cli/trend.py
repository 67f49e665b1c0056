"""``rnndiag trend``: many checkpoints of one run in training order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import check_destinations
from rnndiag.cli.fleet import settle
from rnndiag.cli.inputs import read_by
from rnndiag.cli.measuring import measure_models
from rnndiag.cli.output import deliver, destinations, parse_targets, without_stdout
from rnndiag.cli.paths import asked_for
from rnndiag.cli.short_text import counting
from rnndiag.cli.streams import print_table

if TYPE_CHECKING:
    from rnndiag.trend.data import Trend

FORMATS = ("table", "json", "csv", "markdown")

By = Annotated[
    Literal["auto", "step", "name", "time", "given"],
    typer.Option("--order", help="Training order: by the step in the files, the number in their names, the time they "
                 "were written, or as given; auto takes the first that all of them tell."),
]  # fmt: skip
Format = Annotated[list[str] | None, opt.format_option("table, json, csv or markdown")]
FailOn = Annotated[
    Literal["error", "warning", "info", "never"],
    typer.Option("--fail-on", rich_help_panel="Rules", help="Exit with 1 if a finding is at least so severe."),
]


def trend(
    paths: opt.Paths = None,
    imported: opt.Import = None,
    order: By = "auto",
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
    fail_on: FailOn = "never",
    formats: Format = None,
    output: opt.Output = None,
    force: opt.Force = False,
    workers: opt.Workers = None,
    scheduler: opt.Scheduler = None,
    cache: opt.Cache = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """Many checkpoints of one run in training order: each measure over training, and where it is heading."""
    chosen = choose(locals(), config, of_runs=True)
    chosen = replace(chosen, values={**chosen.values, "treat": False})  # a trend makes no suggestions
    found = asked_for(chosen, imported)
    targets = parse_targets(formats or (), output, FORMATS)
    check_destinations(destinations(targets), read_by(chosen, found, imported=imported), force=force)
    from rnndiag import trend as run
    from rnndiag.cli.check import FAILED
    from rnndiag.cli.gate import fails
    from rnndiag.renderers import trend as table
    from rnndiag.renderers import trend_text

    fleet = settle(workers, scheduler, cache, resume=False, imported=imported, targets=targets)
    measured = measure_models(chosen, found, imported=imported, quiet=quiet, verbose=verbose, fleet=fleet)
    if measured.interrupted:
        return measured.code  # a part of a run has another trend
    if measured.code and not measured.reports:
        return measured.code  # each refusal has been reported
    result = run.trend(measured.reports, order=order, policy=chosen.policy)
    brief = partial(_print_brief, result, fail_on, quiet=quiet) if without_stdout(targets) else None
    text, drawn = partial(trend_text.render, result), partial(table.render, result)
    deliver(targets, text, drawn, brief=brief, force=force, quiet=quiet)
    return max(measured.code, FAILED if fails(result.findings, fail_on) else 0)


def _print_brief(result: Trend, fail_on: str, *, quiet: bool) -> None:
    from rnndiag.renderers import failures
    from rnndiag.renderers.lines import counts_by_severity

    first, last = result.points[0].path, result.points[-1]
    of_the_run = f"{first} to {last.path}: {last.verdict} at last"
    total = counts_by_severity(Counter(finding.severity for finding in result.findings))
    counted = f"Measured {len(result.points)} checkpoints: {total}."
    print_table(failures.render([(of_the_run, counting(result.findings, fail_on))], last=counted), quiet=quiet)
