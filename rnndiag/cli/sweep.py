"""``rnndiag sweep``: a phase diagram of random nets."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import Destination, check_destinations
from rnndiag.cli.inputs import read_by
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.output import deliver, destinations, parse_targets
from rnndiag.cli.progress import progress_bar

if TYPE_CHECKING:
    from rnndiag.diagnose import Progress

_AXES, _NET = "Axes, at most two of which vary: 1.2 or 0,0.1,1 or 0.5:3:26 or 0.01:10:9log", "Random net"
INTERRUPTED = 130
FORMATS = ("table", "json", "csv")


def sweep(
    sigma: Annotated[
        str | None,
        typer.Option("--sigma", metavar="AXIS", rich_help_panel=_AXES, show_default="0.5:3:26 if nothing varies",
                     help="Gain of the gaussian init: entries of W_hh are N(0, sigma^2/H)."),
    ] = None,
    input_scale: Annotated[
        str, typer.Option("--input-scale", metavar="AXIS", rich_help_panel=_AXES, help="Multiplies W_ih.")
    ] = "1",
    bias_scale: Annotated[
        str | None,
        typer.Option("--bias-scale", metavar="AXIS", rich_help_panel=_AXES, show_default="0, or the init's own",
                     help="Standard deviation of the biases."),
    ] = None,
    hidden: Annotated[
        str, typer.Option("--hidden", "--H", metavar="AXIS", rich_help_panel=_AXES, help="Hidden units H.")
    ] = "128",
    length: Annotated[
        str | None,
        typer.Option("--T", "--length", metavar="AXIS", rich_help_panel=_AXES, show_default="100, or --lag",
                     help="Steps of the probe."),
    ] = None,
    cell: Annotated[
        str, typer.Option("--cell", metavar="AXIS", rich_help_panel=_AXES, help="tanh, relu, gru or lstm.")
    ] = "tanh",
    init: Annotated[
        str,
        typer.Option("--init", metavar="AXIS", rich_help_panel=_AXES,
                     help="gaussian, xavier, he, orthogonal, identity or pytorch."),
    ] = "gaussian",
    nets: Annotated[int, typer.Option("--nets", rich_help_panel=_NET, help="Nets a point, of seeds in a row.")] = 3,
    input_size: Annotated[int, typer.Option("--input-size", rich_help_panel=_NET, help="Inputs D.")] = 16,
    forget_bias: Annotated[
        float, typer.Option("--forget-bias", rich_help_panel=_NET, help="Added to an LSTM's forget biases.")
    ] = 0.0,
    lag: opt.Lag = None,
    batch: opt.Batch = None,
    seed: opt.Seed = None,
    probe: opt.ProbeSpec = None,
    scale: opt.Scale = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    config: opt.Config = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, rich_help_panel="Measurement", show_default="all cores", help="Threads."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FILE", rich_help_panel="Output",
                     help="Keep each net there as it is measured, and go on from what it holds."),
    ] = None,
    formats: Annotated[list[str] | None, opt.format_option("table, json or csv")] = None,
    output: opt.Output = None,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:  # fmt: skip
    """A phase diagram of random nets: where gradients vanish and explode, with theory's critical line."""
    del verbose  # of bugs' tracebacks only, which the caller shows
    targets = parse_targets(formats or (), output, FORMATS)
    from rnndiag import api
    from rnndiag.renderers.sweep import TEXTS, table
    from rnndiag.sweep.axes import longest, parse_axes

    told = {"sigma": sigma, "input_scale": input_scale, "bias_scale": bias_scale, "hidden": hidden, "length": length,
            "cell": cell, "init": init}  # fmt: skip
    axes = parse_axes({name: text for name, text in told.items() if text is not None})
    chosen = choose({**locals(), "length": longest(axes)}, config)
    continued = [] if resume is None else [Destination(resume, "--resume", "continued")]
    check_destinations([*destinations(targets), *continued], read_by(chosen, ()), force=force)
    size = _size(resume)
    measure = partial(
        api.sweep, axes, nets=nets, input_size=input_size, forget_bias=forget_bias, probe=chosen.probe,
        settings=chosen.settings, workers=workers, resume=resume,
    )  # fmt: skip
    interrupts = Interrupts()
    interrupts.holds_results = True
    with progress_bar("sweep", quiet=quiet) as progress, interrupts.active(), interrupts.waiting():
        shown = None if progress is None else partial(_with_speed, progress, time.monotonic())
        result = measure(progress=shown)
    also = [] if resume is None or _size(resume) == size else [resume]
    deliver(
        targets, lambda format_: TEXTS[format_](result), partial(table, result), also=also, force=force, quiet=quiet
    )
    return 0 if result.complete else INTERRUPTED


def _size(file: Path | None) -> int:
    return file.stat().st_size if file is not None and file.exists() else -1


def _with_speed(progress: Progress, start: float, name: str, done: int, total: int) -> None:
    speed = done / max(time.monotonic() - start, 1e-9)
    progress(f"{name}, {speed:.1f} points/s" if name == "points" else name, done, total)
