"""``rnndiag check``: the gate for CI."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.fleet import settle
from rnndiag.cli.gate import Gate
from rnndiag.cli.measuring import complain, measure_models
from rnndiag.cli.output import check_writable, emit, parse_targets, write_whole
from rnndiag.cli.paths import asked_for, read_by
from rnndiag.cli.streams import print_table
from rnndiag.errors import SettingsError

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
    workers: opt.Workers = None,
    scheduler: opt.Scheduler = None,
    cache: opt.Cache = None,
    resume: opt.Resume = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """The gate for CI: a line a model and each finding; exits with 1 at or above --fail-on."""
    chosen = choose(locals(), config)
    if show_config:
        from rnndiag.cli.show_config import config_table

        print_table(config_table(chosen), quiet=quiet)
        return 0
    found = asked_for(chosen, imported)
    inputs = read_by(chosen, found)
    targets = parse_targets(formats or (), output, [*inputs, *([baseline] if baseline else [])])
    fleet = settle(workers, scheduler, cache, resume=resume, imported=imported, targets=targets)
    if resume and (baseline or write_baseline):
        raise SettingsError("--resume with a baseline: what was written before was held to none; leave out one of them")
    from rnndiag.renderers import lines

    if write_baseline is not None:
        check_writable(write_baseline, inputs)
    gate = Gate(chosen, baseline, keep=write_baseline is not None)
    measured = measure_models(
        chosen, found, imported=imported, quiet=quiet, verbose=verbose, fleet=fleet, each=gate, held_to=gate.held_to
    )
    if write_baseline is not None and measured.code:
        complain(f"--write-baseline: {write_baseline} is not written, since not every model was measured")
    elif write_baseline is not None:
        from rnndiag.renderers.json import render

        whole = [gate.whole[index] for index in sorted(gate.whole)]
        write_whole(write_baseline, render(whole, array=measured.several))
    table = partial(lines.render, known=gate.known)
    emit(measured.shown(fleet.rest), measured.reports, table=table, several=measured.several, quiet=quiet)
    return max(measured.code, FAILED if gate.failed else 0)
