"""``rnndiag simulate``: build a random net and diagnose it."""

import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import Destination, write
from rnndiag.cli.options import (
    NET,
    OUTPUT,
    ForgetBias,
    InputSize,
    MeasureOptions,
    OutputOptions,
    ProbeOptions,
    RuleOptions,
)
from rnndiag.cli.output import full_table
from rnndiag.cli.progress import progress_bar
from rnndiag.cli.spread_options import option_group, spread_options

if TYPE_CHECKING:
    from rnndiag.random_nets import RandomNet


@option_group
class NetOptions:
    """The random net, and the file that it is saved in."""

    sigma: Annotated[
        float | None,
        typer.Option("--sigma", rich_help_panel=NET, show_default="1",
                     help="Gain of the gaussian init: entries of W_hh are N(0, sigma^2/H)."),
    ] = None  # fmt: skip
    hidden: Annotated[int, typer.Option("--hidden", "--H", rich_help_panel=NET, help="Hidden units H.")] = 128
    input_size: InputSize = 16
    cell: Annotated[Literal["tanh", "relu", "gru", "lstm"], typer.Option("--cell", rich_help_panel=NET)] = "tanh"
    layers: Annotated[int, typer.Option("--layers", rich_help_panel=NET, help="Layers in the stack.")] = 1
    init: Annotated[
        Literal["gaussian", "xavier", "he", "orthogonal", "identity", "pytorch"],
        typer.Option("--init", rich_help_panel=NET, help="Law of the weights, each gate by itself."),
    ] = "gaussian"
    input_scale: Annotated[
        float,
        typer.Option("--input-scale", rich_help_panel=NET,
                     help="Multiplies W_ih; 1 turns inputs of unit variance into preactivations of unit variance."),
    ] = 1.0  # fmt: skip
    bias_scale: Annotated[
        float | None,
        typer.Option("--bias-scale", rich_help_panel=NET, show_default="0, or the init's own",
                     help="Standard deviation of the biases."),
    ] = None  # fmt: skip
    forget_bias: ForgetBias = 0.0
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", rich_help_panel=OUTPUT, help="Save the net as a PyTorch checkpoint."),
    ] = None

    def net(self, seed: int) -> "RandomNet":
        """The random net.

        Raises:
            SettingsError: for numbers that do not make a net.
        """
        from rnndiag.random_nets import RandomNet

        return RandomNet(
            self.cell,
            self.hidden,
            self.input_size,
            self.layers,
            self.init,
            self.sigma,
            self.input_scale,
            self.bias_scale,
            self.forget_bias,
            seed,
        )


@spread_options(leave_out=["nonlinearity", "alpha", "map", "assume", "verify", "fail_on"])
def simulate(
    random: NetOptions, probe: ProbeOptions, measure: MeasureOptions, rules: RuleOptions, output: OutputOptions
) -> None:
    """Build a random net and diagnose it like a saved one."""
    chosen = choose(rules, probe, measure)
    saved = [] if random.save is None else [Destination(random.save, "--save", "model")]
    outputs = output.checked(chosen.input_files, also=saved, saves=True)
    from rnndiag import api

    net = random.net(chosen.values.seed)
    made, policy = chosen.probe, chosen.policy
    with progress_bar("simulate", quiet=output.quiet) as progress:
        report = api.simulate(net, probe=made, settings=chosen.settings, policy=policy, progress=progress)
    written: list[Path] = []
    try:
        for destination in saved:
            write(destination, _checkpoint(net), force=output.force)
            written.append(destination.file)
    finally:  # show the report even if the net could not be written
        outputs.deliver_reports([report], partial(full_table, verbose=output.verbose), also=written)


def _checkpoint(net: "RandomNet") -> bytes:
    import torch

    from rnndiag.random_nets import checkpoint

    buffer = io.BytesIO()
    torch.save(checkpoint(net), buffer)
    return buffer.getvalue()
