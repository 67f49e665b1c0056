"""``rnndiag inspect``: diagnose saved models."""

from __future__ import annotations

from functools import partial

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import check_destinations
from rnndiag.cli.fleet import settle
from rnndiag.cli.inputs import read_by
from rnndiag.cli.measuring import measure_models, unchanged
from rnndiag.cli.output import destinations, emit, full_table, parse_targets
from rnndiag.cli.paths import asked_for
from rnndiag.cli.short_text import ShortText


def inspect(
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
    """Diagnose saved models: step Jacobians, gradients through time, a verdict, what to try.

    No code in a file is ever run; only --import runs code, which is your own.
    """
    chosen = choose(locals(), config)
    found = asked_for(chosen, imported)
    targets = parse_targets(formats or (), output)
    check_destinations(destinations(targets, resume=resume), read_by(chosen, found, imported=imported), force=force)
    fleet = settle(workers, scheduler, cache, resume=resume, imported=imported, targets=targets)
    short = ShortText()
    each = short.after(unchanged) if fleet.only_stream else None
    measured = measure_models(chosen, found, imported=imported, quiet=quiet, verbose=verbose, fleet=fleet, each=each)
    emit(
        measured.shown(fleet.rest),
        measured.reports,
        table=partial(full_table, verbose=verbose),
        several=measured.several,
        brief=partial(short.show, "Measured", quiet=quiet) if fleet.only_stream and not measured.interrupted else None,
        also=measured.streamed,
        force=force,
        quiet=quiet,
    )
    return measured.code
