"""The options that several commands share. Each option is declared once: as a field of its group, or as a type."""

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer

from rnndiag.cli.destinations import Destination, check_destinations
from rnndiag.cli.fleet import Fleet
from rnndiag.cli.inputs import Input
from rnndiag.cli.output import STREAMED, Outputs, Target, destinations, parse_targets
from rnndiag.cli.spread_options import option_group
from rnndiag.errors import OutputError, SettingsError
from rnndiag.renderers.registry import REPORTS

PROBE, MEASUREMENT, RULES, OUTPUT, FLEET = "Probe", "Measurement", "Rules", "Output", "Many models"
NET = "Random net"
"""The panels of ``--help``."""

MAX_WORKERS_ON_WINDOWS = 61
"""The largest number of processes that a pool can wait for there."""

InputSize = Annotated[int, typer.Option("--input-size", rich_help_panel=NET, help="Inputs D.")]
ForgetBias = Annotated[
    float, typer.Option("--forget-bias", rich_help_panel=NET, help="Added to an LSTM's forget biases.")
]
"""Options of the commands that draw random nets, which have them in different places of their ``--help``."""


@option_group
class ModelOptions:
    """Which models."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...", help="Saved models, folders, patterns, URLs, - for stdin.", show_default=False
        ),
    ] = None
    imported: Annotated[
        str | None,
        typer.Option("--import", metavar="MODULE:FACTORY",
                     help="Run your own code: FACTORY() of MODULE, or FACTORY(PATH) for each PATH, returns an "
                     "nn.Module or a tuple (step, state0, inputs) to measure."),
    ] = None  # fmt: skip


@option_group
class ProbeOptions:
    """What to measure on."""

    length: Annotated[
        int | None,
        typer.Option("--T", "--length", metavar="STEPS", rich_help_panel=PROBE, show_default="100, or --lag",
                     help="Steps of the probe."),
    ] = None  # fmt: skip
    batch: Annotated[
        int | None, typer.Option("--batch", rich_help_panel=PROBE, show_default="16", help="Sequences.")
    ] = None
    probe: Annotated[
        str | None,
        typer.Option("--probe", metavar="KIND|FILE", show_default="noise", rich_help_panel=PROBE,
                     help="noise, zeros, constant, sine, impulse, tokens (rows of the model's embedding), or a .npy, "
                     ".npz or .pt file holding an array [T, D] or [B, T, D]."),
    ] = None  # fmt: skip
    layout: Annotated[
        Literal["BTD", "TBD"] | None,
        typer.Option("--layout", show_default="BTD", rich_help_panel=PROBE,
                     help="Order of the axes in the array of --probe FILE: sequences first, or steps first."),
    ] = None  # fmt: skip
    scale: Annotated[
        float | None, typer.Option("--scale", show_default="1", rich_help_panel=PROBE, help="Multiplies the probe.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, show_default="0", help="A fixed seed gives the same report.")
    ] = None


@option_group
class MeasureOptions:
    """How to read a model and measure it."""

    lag: Annotated[
        int | None,
        typer.Option("--lag", metavar="STEPS", rich_help_panel=MEASUREMENT, show_default="T",
                     help="Length of the dependency that the task needs; the verdict is about it."),
    ] = None  # fmt: skip
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="GLOB", show_default="*", rich_help_panel=MEASUREMENT,
                     help="Report only these layers."),
    ] = None  # fmt: skip
    nonlinearity: Annotated[
        Literal["tanh", "relu"] | None,
        typer.Option("--nonlinearity", rich_help_panel=MEASUREMENT, show_default="tanh",
                     help="Of Elman layers, where the file does not say."),
    ] = None  # fmt: skip
    alpha: Annotated[
        float | None,
        typer.Option("--alpha", metavar="A", rich_help_panel=MEASUREMENT,
                     help="The leak of leaky RNNs (dt/tau, leaking rate), in (0, 1], where the file does not hold it."),
    ] = None  # fmt: skip
    map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="hh=PATTERN,ih=PATTERN,cell=CELL", rich_help_panel=MEASUREMENT,
                     help="Which tensors are recurrent and input weights, where their names do not tell; * stands for "
                     "the same text in both."),
    ] = None  # fmt: skip
    assume: Annotated[
        str | None,
        typer.Option("--assume", metavar="CELL", rich_help_panel=MEASUREMENT,
                     help="Confirm that layers of a class of your own are this kind of cell (lstm, gru, tanh, ...)."),
    ] = None  # fmt: skip
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", rich_help_panel=MEASUREMENT, show_default="no-verify",
                     help="Also run the layers of ONNX and Keras files in onnxruntime and Keras; compare the states."),
    ] = None  # fmt: skip
    exponents: Annotated[
        str | None,
        typer.Option("--exponents", metavar="K|all", show_default="8", rich_help_panel=MEASUREMENT,
                     help="Lyapunov exponents to compute."),
    ] = None  # fmt: skip
    dtype: Annotated[
        Literal["float64", "float32"] | None,
        typer.Option("--dtype", show_default="float64", rich_help_panel=MEASUREMENT,
                     help="Precision of the measurement."),
    ] = None  # fmt: skip
    device: Annotated[
        str | None,
        typer.Option("--device", show_default="cpu", rich_help_panel=MEASUREMENT,
                     help="A torch device to measure on."),
    ] = None  # fmt: skip


FAIL_ON_HELP = "Exit with code 1 if any finding is at least this severe."


@option_group
class RuleOptions:
    """Which rules apply, and when the command fails."""

    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", rich_help_panel=RULES, show_default="nearest",
                     help="rnndiag.yaml, or a pyproject.toml with \\[tool.rnndiag]; options come before it."),
    ] = None  # fmt: skip
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="CODE[,CODE]", rich_help_panel=RULES,
                     help="Apply only rules with these prefixes."),
    ] = None  # fmt: skip
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="CODE[,CODE]", rich_help_panel=RULES,
                     help="Leave out rules with these prefixes."),
    ] = None  # fmt: skip
    treat: Annotated[
        bool | None,
        typer.Option("--treat/--no-treat", rich_help_panel=RULES, show_default="treat",
                     help="Try suggestions for a model that is ill on a copy, and drop those that do not help."),
    ] = None  # fmt: skip
    fail_on: Annotated[
        Literal["error", "warning", "info", "never"] | None,
        typer.Option("--fail-on", show_default="error", rich_help_panel=RULES,
                     help=FAIL_ON_HELP),
    ] = None  # fmt: skip


FORMAT_REMARKS = {"jsonl": " (one line per finished model)"}
"""What the help of ``--format`` adds to the name of a format."""


def format_option(formats: Collection[str]) -> Any:
    """``--format`` of a command with these formats in addition to the table, in the order of the registry."""
    *first, last = (name + FORMAT_REMARKS.get(name, "") for name in ("table", *formats))
    known = f"{', '.join(first)} or {last}"
    return typer.Option(
        "--format",
        metavar="FMT[=FILE]",
        rich_help_panel=OUTPUT,
        show_default="table",
        help=f"{known}; repeat with =FILE to write several. The table stays on stdout unless another format goes "
        "there.",
    )


@option_group
class OutputOptions:
    """Where results go."""

    formats: Annotated[list[str] | None, format_option(REPORTS)] = None
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="Write the report to FILE."),
    ] = None
    force: Annotated[
        bool,
        typer.Option("--force", rich_help_panel=OUTPUT,
                     help="Replace existing files that are not reports of rnndiag; an input is never replaced."),
    ] = False  # fmt: skip
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", rich_help_panel=OUTPUT,
                     help="Print no progress bar, no lines about written files and no color."),
    ] = False  # fmt: skip
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", rich_help_panel=OUTPUT, help="Every step, every block; tracebacks of bugs."),
    ] = False

    result_formats: ClassVar[Collection[str]] = REPORTS
    """the formats of the command besides the table"""

    def checked(
        self,
        inputs: Sequence[Input],
        *,
        also: Sequence[Destination] = (),
        resume: bool = False,
        saves: bool = False,
    ) -> Outputs:
        """The formats and files, before the work starts.

        Args:
            inputs: every file that the command reads.
            also: other files that the command writes.
            resume: whether the file of JSON lines is continued.
            saves: whether the command can save a model.

        Raises:
            SettingsError: for formats that are unknown or do not fit together.
            OutputError: for a file that cannot be written, or must not be.
        """
        targets = parse_targets(self.formats or (), self.output, ("table", *self.result_formats))
        check_destinations([*destinations(targets, resume=resume), *also], inputs, force=self.force, saves=saves)
        return Outputs(targets, force=self.force, quiet=self.quiet)


@option_group
class FleetOptions:
    """How many models are measured at once, and where results are kept."""

    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", show_default="1", rich_help_panel=FLEET,
                     help="Measure in N processes of one thread each."),
    ] = None  # fmt: skip
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="tcp://HOST:8786", rich_help_panel=FLEET,
                     help="Measure on the workers of a dask.distributed scheduler."),
    ] = None  # fmt: skip
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", rich_help_panel=FLEET,
                     help="Keep reports there by content; an unchanged file is read, not measured."),
    ] = None  # fmt: skip
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=FLEET,
                     help="Go on with the file of --format jsonl=FILE: paths that it holds are not measured again."),
    ] = False  # fmt: skip

    def checked(self, targets: Sequence[Target], imported: str | None) -> Fleet:
        """Check the options against one another and against those of other groups; makes the folder of ``--cache``.

        Raises:
            SettingsError: for options that do not go together.
            OutputError: for a cache that cannot be written.
        """
        workers, cache = self.workers, self.cache
        if workers is not None and workers < 1:
            raise SettingsError(f"--workers: expected at least 1 process, got {workers}")
        if sys.platform == "win32" and workers is not None and workers > MAX_WORKERS_ON_WINDOWS:
            limit = MAX_WORKERS_ON_WINDOWS
            raise SettingsError(f"--workers: expected at most {limit} processes on Windows, got {workers}")
        if workers is not None and self.scheduler is not None:
            raise SettingsError(
                "--workers and --scheduler: the scheduler has workers of its own; leave out one of them"
            )
        streams = [target for target in targets if target.format == STREAMED]
        if len(streams) > 1:
            raise SettingsError("--format jsonl: expected once")
        stream = streams[0] if streams else None
        if self.resume and (stream is None or stream.file is None):
            raise SettingsError("--resume: expected --format jsonl=FILE as well, the file of results to continue")
        if imported is not None:
            given = {
                "--workers": workers,
                "--scheduler": self.scheduler,
                "--cache": cache,
                "--resume": self.resume or None,
            }
            unfit = [name for name, value in given.items() if value is not None]
            if unfit:
                raise SettingsError(f"{unfit[0]} with --import: your own code runs here alone; leave out {unfit[0]}")
        if cache is not None:
            _make_folder(cache)
        rest = tuple(target for target in targets if target is not stream)
        return Fleet(workers or 1, self.scheduler, cache, self.resume, stream, rest)


def _make_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--cache {cache}: expected a folder, or a place for one ({error.strerror})") from error
    if not os.access(cache, os.W_OK):
        raise OutputError(f"--cache {cache}: the folder is not writable")
