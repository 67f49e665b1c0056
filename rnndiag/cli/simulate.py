"""``rnndiag simulate``: build a random net and diagnose it."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import Destination, check_destinations, write
from rnndiag.cli.inputs import read_by
from rnndiag.cli.output import destinations, emit, full_table, parse_targets
from rnndiag.cli.progress import progress_bar

_NET = "Random net"


def simulate(
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", rich_help_panel=_NET, show_default="1",
                     help="Gain of the gaussian init: entries of W_hh are N(0, sigma^2/H)."),
    ] = None,
    hidden: Annotated[
        int, typer.Option("--hidden", "--H", rich_help_panel=_NET, help="Hidden units H.")
    ] = 128,
    input_size: Annotated[int, typer.Option("--input-size", rich_help_panel=_NET, help="Inputs D.")] = 16,
    cell: Annotated[
        Literal["tanh", "relu", "gru", "lstm"], typer.Option("--cell", rich_help_panel=_NET)
    ] = "tanh",
    layers: Annotated[int, typer.Option("--layers", rich_help_panel=_NET, help="Layers in the stack.")] = 1,
    init: Annotated[
        Literal["gaussian", "xavier", "he", "orthogonal", "identity", "pytorch"],
        typer.Option("--init", rich_help_panel=_NET, help="Law of the weights, each gate by itself."),
    ] = "gaussian",
    input_scale: Annotated[
        float,
        typer.Option("--input-scale", rich_help_panel=_NET,
                     help="Multiplies W_ih; 1 turns inputs of unit variance into preactivations of unit variance."),
    ] = 1.0,
    bias_scale: Annotated[
        float | None,
        typer.Option("--bias-scale", rich_help_panel=_NET, show_default="0, or the init's own",
                     help="Standard deviation of the biases."),
    ] = None,
    forget_bias: Annotated[
        float, typer.Option("--forget-bias", rich_help_panel=_NET, help="Added to an LSTM's forget biases.")
    ] = 0.0,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", rich_help_panel="Output", help="Save the net as a PyTorch checkpoint."),
    ] = None,
    length: opt.Length = None,
    lag: opt.Lag = None,
    batch: opt.Batch = None,
    seed: opt.Seed = None,
    probe: opt.ProbeSpec = None,
    scale: opt.Scale = None,
    layer: opt.Layer = None,
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
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:  # fmt: skip
    """Build a random net and diagnose it like a saved one."""
    chosen = choose(locals(), config)
    targets = parse_targets(formats or (), output)
    saved = None if save is None else Destination(save, "--save", "model")
    files = [*destinations(targets), *([saved] if saved else [])]
    check_destinations(files, read_by(chosen, ()), force=force, saves=True)
    from rnndiag import api
    from rnndiag.random_nets import RandomNet, checkpoint

    net = RandomNet(cell, hidden, input_size, layers, init, sigma, input_scale, bias_scale, forget_bias, chosen["seed"])
    probe_, policy = chosen.probe, chosen.policy
    with progress_bar("simulate", quiet=quiet) as progress:
        report = api.simulate(net, probe=probe_, settings=chosen.settings, policy=policy, progress=progress)
    written: list[Path] = []
    try:
        if saved is not None:
            import torch

            buffer = io.BytesIO()
            torch.save(checkpoint(net), buffer)
            write(saved, buffer.getvalue(), force=force)
            written.append(saved.file)
    finally:  # show the report even if the net could not be written
        emit(targets, [report], table=partial(full_table, verbose=verbose), also=written, force=force, quiet=quiet)
