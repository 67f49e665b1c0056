"""``rnndiag sweep``: a phase diagram of random nets."""

import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from rnndiag.cli.choices import Choices, choose
from rnndiag.cli.destinations import Destination
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.options import (
    MEASUREMENT,
    NET,
    OUTPUT,
    ForgetBias,
    InputSize,
    MeasureOptions,
    OutputOptions,
    ProbeOptions,
    RuleOptions,
    format_option,
)
from rnndiag.cli.progress import progress_bar
from rnndiag.cli.run_models import INTERRUPTED
from rnndiag.cli.spread_options import option_group, spread_options
from rnndiag.renderers.registry import SWEEP

if TYPE_CHECKING:
    from rnndiag.diagnose import Progress
    from rnndiag.sweep.axes import Axes
    from rnndiag.sweep.result import Sweep

AXES = "Axes, at most two of which vary: 1.2 or 0,0.1,1 or 0.5:3:26 or 0.01:10:9log"
"""A panel of ``--help``."""


@option_group
class AxisOptions:
    """The axes, each a value or several."""

    sigma: Annotated[
        str | None,
        typer.Option("--sigma", metavar="AXIS", rich_help_panel=AXES, show_default="0.5:3:26 if nothing varies",
                     help="Gain of the gaussian init: entries of W_hh are N(0, sigma^2/H)."),
    ] = None  # fmt: skip
    input_scale: Annotated[
        str, typer.Option("--input-scale", metavar="AXIS", rich_help_panel=AXES, help="Multiplies W_ih.")
    ] = "1"
    bias_scale: Annotated[
        str | None,
        typer.Option("--bias-scale", metavar="AXIS", rich_help_panel=AXES, show_default="0, or the init's own",
                     help="Standard deviation of the biases."),
    ] = None  # fmt: skip
    hidden: Annotated[
        str, typer.Option("--hidden", "--H", metavar="AXIS", rich_help_panel=AXES, help="Hidden units H.")
    ] = "128"
    steps: Annotated[
        str | None,
        typer.Option("--T", "--length", metavar="AXIS", rich_help_panel=AXES, show_default="100, or --lag",
                     help="Steps of the probe."),
    ] = None  # fmt: skip
    cell: Annotated[
        str, typer.Option("--cell", metavar="AXIS", rich_help_panel=AXES, help="tanh, relu, gru or lstm.")
    ] = "tanh"
    init: Annotated[
        str,
        typer.Option("--init", metavar="AXIS", rich_help_panel=AXES,
                     help="gaussian, xavier, he, orthogonal, identity or pytorch."),
    ] = "gaussian"  # fmt: skip

    @property
    def texts(self) -> dict[str, str]:
        """The text of each axis that has one, by the name of the axis."""
        texts = {
            "sigma": self.sigma,
            "input_scale": self.input_scale,
            "bias_scale": self.bias_scale,
            "hidden": self.hidden,
            "length": self.steps,
            "cell": self.cell,
            "init": self.init,
        }
        return {name: text for name, text in texts.items() if text is not None}


@option_group
class EnsembleOptions:
    """The random nets at each point."""

    nets: Annotated[int, typer.Option("--nets", rich_help_panel=NET, help="Nets a point, of seeds in a row.")] = 3
    input_size: InputSize = 16
    forget_bias: ForgetBias = 0.0


@option_group
class SweepRunOptions:
    """How a sweep runs."""

    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, rich_help_panel=MEASUREMENT, show_default="all cores", help="Threads."),
    ] = None
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FILE", rich_help_panel=OUTPUT,
                     help="Keep each net there as it is measured, and go on from what it holds."),
    ] = None  # fmt: skip


@option_group
class SweepOutputOptions(OutputOptions):
    """Where a sweep goes."""

    formats: Annotated[list[str] | None, format_option(SWEEP)] = None

    result_formats: ClassVar[Collection[str]] = SWEEP


@spread_options(
    leave_out=[
        "length",
        "layer",
        "nonlinearity",
        "alpha",
        "map",
        "assume",
        "exponents",
        "select",
        "ignore",
        "treat",
        "fail_on",
    ]
)
def sweep(
    axis: AxisOptions,
    ensemble: EnsembleOptions,
    measure: MeasureOptions,
    probe: ProbeOptions,
    rules: RuleOptions,
    run: SweepRunOptions,
    output: SweepOutputOptions,
) -> int:
    """A phase diagram of random nets: where gradients vanish and explode, with theory's critical line."""
    from rnndiag.renderers import sweep_table
    from rnndiag.sweep.axes import longest, parse_axes

    axes = parse_axes(axis.texts)
    chosen = choose(rules, measure, replace(probe, length=longest(axes)))
    continued = [] if run.resume is None else [Destination(run.resume, "--resume", "continued")]
    outputs = output.checked(chosen.input_files, also=continued)
    size = _size(run.resume)
    result = _measure(axes, ensemble, chosen, run, quiet=output.quiet)
    also = [] if run.resume is None or _size(run.resume) == size else [run.resume]
    outputs.deliver(result, SWEEP, sweep_table.render, also=also)
    return 0 if result.complete else INTERRUPTED


def _measure(axes: "Axes", ensemble: EnsembleOptions, chosen: Choices, run: SweepRunOptions, *, quiet: bool) -> "Sweep":
    """Measure the nets with a progress bar. After Ctrl-C, the result holds the nets that are done."""
    from rnndiag import api

    measure_nets = partial(
        api.sweep,
        axes,
        nets=ensemble.nets,
        input_size=ensemble.input_size,
        forget_bias=ensemble.forget_bias,
        probe=chosen.probe,
        settings=chosen.settings,
        workers=run.workers,
        resume=run.resume,
    )
    interrupts = Interrupts()
    interrupts.holds_results = True
    with progress_bar("sweep", quiet=quiet) as progress, interrupts.active(), interrupts.waiting():
        shown = None if progress is None else partial(_with_speed, progress, time.monotonic())
        return measure_nets(progress=shown)


def _size(file: Path | None) -> int:
    return file.stat().st_size if file is not None and file.exists() else -1


def _with_speed(progress: "Progress", start: float, name: str, done: int, total: int) -> None:
    speed = done / max(time.monotonic() - start, 1e-9)
    progress(f"{name}, {speed:.1f} points/s" if name == "points" else name, done, total)
