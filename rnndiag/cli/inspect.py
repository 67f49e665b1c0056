"""``rnndiag inspect``: diagnose saved models."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.output import emit, parse_targets
from rnndiag.cli.paths import expand
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import CheckpointError, RnndiagError


def inspect(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files written by torch.save, folders, globs.")],
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
    formats: opt.Format = None,
    output: opt.Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """Diagnose saved models: step Jacobians, gradients through time, a verdict, what to try.

    No code in a file is ever run.
    """
    targets = parse_targets(formats or (), output)
    settings = opt.settings(lag=lag, exponents=exponents, dtype=dtype, device=device, seed=seed, layer=layer)
    from rnndiag import api

    built = api.make_probe(probe, length=length, batch=batch, scale=scale, settings=settings)
    reports, code = [], 0
    for path in expand(paths):
        try:
            if isinstance(path, CheckpointError):
                raise path
            with progress_bar(path, quiet=quiet) as progress:
                reports.append(
                    api.inspect(path, probe=built, nonlinearity=nonlinearity, settings=settings, progress=progress)
                )
        except RnndiagError as error:
            # The others are still measured; the exit code is the worst.
            print("rnndiag: error:", " ".join(str(error).split()), file=sys.stderr)
            code = max(code, error.exit_code)
    emit(targets, reports, quiet=quiet, verbose=verbose)
    return code
