"""``rnndiag inspect``: diagnose saved models."""

from __future__ import annotations

from functools import partial

from rnndiag.cli import options as opt
from rnndiag.cli.measuring import measure_paths
from rnndiag.cli.output import emit, parse_targets


def inspect(
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
    formats: opt.Format = None,
    output: opt.Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """Diagnose saved models: step Jacobians, gradients through time, a verdict, what to try.

    No code in a file is ever run.
    """
    targets = parse_targets(formats or (), output)
    policy = opt.policy(select, ignore)
    settings = opt.settings(lag=lag, exponents=exponents, dtype=dtype, device=device, seed=seed, layer=layer)
    from rnndiag import api
    from rnndiag.renderers import table

    built = api.make_probe(probe, length=length, batch=batch, scale=scale, settings=settings)
    reports, code = measure_paths(
        paths, probe=built, nonlinearity=nonlinearity, settings=settings, policy=policy, quiet=quiet
    )
    emit(targets, reports, table=partial(table.render, verbose=verbose), quiet=quiet)
    return code
