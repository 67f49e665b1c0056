"""``rnndiag compare``: what changed between two checkpoints."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import Choices, choose
from rnndiag.cli.destinations import check_destinations
from rnndiag.cli.inputs import read_by
from rnndiag.cli.output import deliver, destinations, parse_targets, without_stdout
from rnndiag.cli.progress import progress_bar
from rnndiag.cli.short_text import counting
from rnndiag.cli.streams import print_table
from rnndiag.errors import BaselineError

if TYPE_CHECKING:
    from rnndiag.comparison.compare import Comparison
    from rnndiag.report import Report

FORMATS = ("table", "json")

Base = Annotated[str, typer.Argument(metavar="BASE", help="A checkpoint, or a report written by --format json.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The checkpoint or report to compare with BASE.")]


def compare(
    base: Base,
    new: New,
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
    formats: opt.TableOrJson = None,
    output: opt.Output = None,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """What changed from BASE to NEW, and what of it is significant; exits with 1 on a regression."""
    chosen = choose(locals(), config)
    del verbose  # of bugs' tracebacks only, which the caller shows
    targets = parse_targets(formats or (), output, FORMATS)
    check_destinations(destinations(targets), read_by(chosen, (base, new)), force=force)
    from rnndiag.cli.check import FAILED
    from rnndiag.cli.gate import fails
    from rnndiag.comparison.baseline import match
    from rnndiag.comparison.compare import compare as compared
    from rnndiag.renderers import comparison as rendered

    one, two = (_report(path, chosen, quiet=quiet) for path in (base, new))
    result = compared(match(two, [one], base), two)
    brief = partial(_print_brief, result, chosen["fail_on"], quiet=quiet) if without_stdout(targets) else None
    text, table = lambda _: rendered.as_json(result), partial(rendered.table, result)
    deliver(targets, text, table, brief=brief, force=force, quiet=quiet)
    return FAILED if fails(result.findings.worse, chosen["fail_on"]) else 0


def _print_brief(result: Comparison, fail_on: str, *, quiet: bool) -> None:
    from rnndiag.renderers import failures
    from rnndiag.renderers.lines import counts_by_severity

    worse = result.findings.worse
    total = counts_by_severity(Counter(finding.severity for finding in worse), "nothing is worse")
    found = (f"{result.new}: {result.verdicts[1]}", counting(worse, fail_on))
    print_table(failures.render([found], last=f"Compared with {result.base}: {total}."), quiet=quiet)


def _report(path: str, chosen: Choices, *, quiet: bool) -> Report:
    from dataclasses import replace

    from rnndiag import api
    from rnndiag.comparison.baseline import is_report, read_reports

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
