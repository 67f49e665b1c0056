"""``rnndiag check``: the gate for CI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.measuring import measure_paths
from rnndiag.cli.output import emit, parse_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnndiag.report import Report

FAILED = 1

FailOn = Annotated[
    Literal["error", "warning", "info", "never"],
    typer.Option("--fail-on", rich_help_panel="Rules", help="Exit with 1 if a finding is at least so severe."),
]


def check(
    paths: opt.Paths,
    length: opt.Length = None,
    lag: opt.Lag = None,
    batch: opt.Batch = None,
    seed: opt.Seed = 0,
    probe: opt.ProbeSpec = "noise",
    scale: opt.Scale = 1.0,
    layer: opt.Layer = "*",
    nonlinearity: opt.Nonlinearity = None,
    exponents: opt.Exponents = "8",
    dtype: opt.Dtype = "float64",
    device: opt.Device = "cpu",
    select: opt.Select = None,
    ignore: opt.Ignore = None,
    fail_on: FailOn = "error",
    formats: opt.Format = None,
    output: opt.Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """The gate for CI: a line a model and each finding; exits with 1 at or above --fail-on."""
    del verbose  # of bugs' tracebacks only, which the caller shows
    targets = parse_targets(formats or (), output)
    policy = opt.policy(select, ignore)
    settings = opt.settings(lag=lag, exponents=exponents, dtype=dtype, device=device, seed=seed, layer=layer)
    from rnndiag import api
    from rnndiag.renderers import lines

    built = api.make_probe(probe, length=length, batch=batch, scale=scale, settings=settings)
    reports, code = measure_paths(
        paths, probe=built, nonlinearity=nonlinearity, settings=settings, policy=policy, quiet=quiet
    )
    emit(targets, reports, table=lines.render, quiet=quiet)
    return max(code, FAILED if fails(reports, fail_on) else 0)


def fails(reports: Sequence[Report], fail_on: str) -> bool:
    """Whether a finding is at or above a severity."""
    from rnndiag.rules import SEVERITIES

    if fail_on == "never":
        return False
    counting = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return any(finding.severity in counting for report in reports for finding in report.findings)
