"""``rnndiag check``: the gate for CI."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import Destination, check_destinations, write
from rnndiag.cli.fleet import settle
from rnndiag.cli.gate import Gate
from rnndiag.cli.inputs import read_by
from rnndiag.cli.measuring import Measured, complain, measure_models
from rnndiag.cli.output import destinations, emit, parse_targets, without_stdout
from rnndiag.cli.paths import asked_for
from rnndiag.cli.short_text import ShortText
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
    force: opt.Force = False,
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
    targets = parse_targets(formats or (), output)
    kept = None if write_baseline is None else _baseline_file(write_baseline, baseline)
    inputs = [*read_by(chosen, found, imported=imported), *([baseline] if baseline else [])]
    files = [*destinations(targets, resume=resume), *([kept] if kept else [])]
    check_destinations(files, inputs, force=force)
    fleet = settle(workers, scheduler, cache, resume=resume, imported=imported, targets=targets)
    if resume and (baseline or write_baseline):
        raise SettingsError("--resume with a baseline: what was written before was held to none; leave out one of them")
    from rnndiag.renderers import lines

    gate, short = Gate(chosen, baseline, keep=kept is not None), ShortText(chosen["fail_on"])
    each = short.after(gate)
    measured = measure_models(
        chosen, found, imported=imported, quiet=quiet, verbose=verbose, fleet=fleet, each=each, held_to=gate.held_to
    )
    written, brief = list(measured.streamed), None
    if without_stdout(targets) and not measured.interrupted:
        brief = partial(short.show, "Checked", "nothing new" if gate.known else "nothing found", quiet=quiet)
    try:
        if kept is not None:
            written += _write_baseline(kept, gate, measured, force=force)
    finally:  # show the findings even if the baseline could not be written
        emit(
            measured.shown(fleet.rest),
            measured.reports,
            table=partial(lines.render, known=gate.known),
            several=measured.several,
            brief=brief,
            also=written,
            force=force,
            quiet=quiet,
        )
    return max(measured.code, FAILED if gate.failed else 0)


def _write_baseline(kept: Destination, gate: Gate, measured: Measured, *, force: bool) -> list[Path]:
    """Write the baseline, and return its file if it was written."""
    if measured.code:
        complain(f"--write-baseline: {kept.file} is not written, since not every model was measured")
        return []
    from rnndiag.renderers.json import render

    whole = [gate.whole[index] for index in sorted(gate.whole)]
    write(kept, render(whole, array=measured.several).encode(), force=force)
    return [kept.file]


def _baseline_file(file: Path, baseline: Path | None) -> Destination:
    """The file of --write-baseline. It may replace the report of --baseline: this is how a new state is accepted."""
    from rnndiag.comparison.baseline import is_report

    accepted = baseline if baseline is not None and is_report(baseline) else None
    return Destination(file, "--write-baseline", rewrites=accepted)
