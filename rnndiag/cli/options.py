"""The options that every measuring command shares, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_PROBE, _MEASURE, _RULES, _OUTPUT, _FLEET = "Probe", "Measurement", "Rules", "Output", "Many models"

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH...", help="Saved models, folders, patterns, URLs, - for stdin.", show_default=False),
]
Import = Annotated[
    str | None,
    typer.Option("--import", metavar="MODULE:FACTORY",
                 help="Run your own code: FACTORY() of MODULE, or FACTORY(PATH) for each PATH, returns an nn.Module or "
                 "a tuple (step, state0, inputs) to measure."),
]  # fmt: skip
Length = Annotated[
    int | None,
    typer.Option("--T", "--length", metavar="STEPS", rich_help_panel=_PROBE, show_default="100, or --lag",
                 help="Steps of the probe."),
]  # fmt: skip
Batch = Annotated[
    int | None,
    typer.Option("--batch", rich_help_panel=_PROBE, show_default="16", help="Sequences."),
]
ProbeSpec = Annotated[
    str | None,
    typer.Option("--probe", metavar="KIND|FILE", show_default="noise", rich_help_panel=_PROBE,
                 help="noise, zeros, constant, sine, impulse, tokens (rows of the model's embedding), or a .npy, .npz "
                 "or .pt file holding an array [T, D] or [B, T, D]."),
]  # fmt: skip
Scale = Annotated[
    float | None, typer.Option("--scale", show_default="1", rich_help_panel=_PROBE, help="Multiplies the probe.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, show_default="0", help="A fixed seed gives the same report.")
]
Lag = Annotated[
    int | None,
    typer.Option("--lag", metavar="STEPS", rich_help_panel=_MEASURE, show_default="T",
                 help="Length of the dependency that the task needs; the verdict is about it."),
]  # fmt: skip
Layer = Annotated[
    str | None,
    typer.Option(
        "--layer", metavar="GLOB", show_default="*", rich_help_panel=_MEASURE, help="Report only these layers."
    ),
]
Nonlinearity = Annotated[
    Literal["tanh", "relu"] | None,
    typer.Option("--nonlinearity", rich_help_panel=_MEASURE, show_default="tanh",
                 help="Of Elman layers, where the file does not say."),
]  # fmt: skip
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="hh=PATTERN,ih=PATTERN,cell=CELL", rich_help_panel=_MEASURE,
                 help="Which tensors are recurrent and input weights, where their names do not tell; * stands for the "
                 "same text in both."),
]  # fmt: skip
Exponents = Annotated[
    str | None,
    typer.Option(
        "--exponents",
        metavar="K|all",
        show_default="8",
        rich_help_panel=_MEASURE,
        help="Lyapunov exponents to compute.",
    ),
]
Dtype = Annotated[
    Literal["float64", "float32"] | None,
    typer.Option("--dtype", show_default="float64", rich_help_panel=_MEASURE, help="Precision of the measurement."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", show_default="cpu", rich_help_panel=_MEASURE, help="A torch device to measure on."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        rich_help_panel=_RULES,
        show_default="nearest",
        help="rnndiag.yaml, or a pyproject.toml with \\[tool.rnndiag]; options come before it.",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", metavar="CODE[,CODE]", rich_help_panel=_RULES, help="Apply only rules with these prefixes."
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="CODE[,CODE]", rich_help_panel=_RULES, help="Leave out rules with these prefixes."
    ),
]
FailOn = Annotated[
    Literal["error", "warning", "info", "never"] | None,
    typer.Option(
        "--fail-on",
        show_default="error",
        rich_help_panel=_RULES,
        help="Exit with 1 if a finding is at least so severe.",
    ),
]
Treat = Annotated[
    bool | None,
    typer.Option("--treat/--no-treat", rich_help_panel=_RULES, show_default="treat",
                 help="Try suggestions for a model that is ill on a copy, and drop those that do not help."),
]  # fmt: skip


def format_option(known: str) -> Any:
    """``--format`` of a command that knows these formats."""
    return typer.Option(
        "--format",
        metavar="FMT[=FILE]",
        rich_help_panel=_OUTPUT,
        show_default="table",
        help=f"{known}; repeat with =FILE to write several. The table stays on stdout unless another format goes "
        "there.",
    )


Format = Annotated[
    list[str] | None,
    format_option("table, json, jsonl (one line per finished model), github, markdown, junit or sarif"),
]
TableOrJson = Annotated[list[str] | None, format_option("table or json")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", rich_help_panel=_OUTPUT, help="Write the report to FILE."),
]
Force = Annotated[
    bool,
    typer.Option("--force", rich_help_panel=_OUTPUT,
                 help="Replace existing files that are not reports of rnndiag; an input is never replaced."),
]  # fmt: skip
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=_OUTPUT,
                 help="Print no progress bar, no lines about written files and no color."),
]  # fmt: skip
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", rich_help_panel=_OUTPUT, help="Every step, every block; tracebacks of bugs."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", show_default="1", rich_help_panel=_FLEET,
                 help="Measure in N processes of one thread each."),
]  # fmt: skip
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="tcp://HOST:8786", rich_help_panel=_FLEET,
                 help="Measure on the workers of a dask.distributed scheduler."),
]  # fmt: skip
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", rich_help_panel=_FLEET,
                 help="Keep reports there by content; an unchanged file is read, not measured."),
]  # fmt: skip
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel=_FLEET,
                 help="Go on with the file of --format jsonl=FILE: paths that it holds are not measured again."),
]  # fmt: skip
