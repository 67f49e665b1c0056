"""The options that every measuring command shares, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.errors import SettingsError

if TYPE_CHECKING:
    from rnndiag.config import Settings
    from rnndiag.rules.policy import Policy

_PROBE, _MEASURE, _RULES, _OUTPUT = "Probe", "Measurement", "Rules", "Output"

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files written by torch.save, folders, globs.", show_default=False),
]
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
    str,
    typer.Option("--probe", metavar="KIND|FILE", rich_help_panel=_PROBE,
                 help="noise, zeros, constant, sine, impulse, tokens (rows of the model's embedding), or a .npy, .npz "
                 "or .pt file holding an array [[T, D]] or [[B, T, D]]."),
]  # fmt: skip
Scale = Annotated[float, typer.Option("--scale", rich_help_panel=_PROBE, help="Multiplies the probe.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="A fixed seed gives the same report.")]
Lag = Annotated[
    int | None,
    typer.Option("--lag", metavar="STEPS", rich_help_panel=_MEASURE, show_default="T",
                 help="Length of the dependency that the task needs; the verdict is about it."),
]  # fmt: skip
Layer = Annotated[
    str, typer.Option("--layer", metavar="GLOB", rich_help_panel=_MEASURE, help="Report only these layers.")
]
Nonlinearity = Annotated[
    Literal["tanh", "relu"] | None,
    typer.Option("--nonlinearity", rich_help_panel=_MEASURE, show_default="tanh",
                 help="Of Elman layers, where the file does not say."),
]  # fmt: skip
Exponents = Annotated[
    str,
    typer.Option("--exponents", metavar="K|all", rich_help_panel=_MEASURE, help="Lyapunov exponents to compute."),
]
Dtype = Annotated[
    Literal["float64", "float32"],
    typer.Option("--dtype", rich_help_panel=_MEASURE, help="Precision of the measurement."),
]
Device = Annotated[str, typer.Option("--device", rich_help_panel=_MEASURE, help="A torch device to measure on.")]
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
Format = Annotated[
    list[str] | None,
    typer.Option("--format", metavar="FMT[=FILE]", rich_help_panel=_OUTPUT, show_default="table",
                 help="table, json, github, markdown, junit or sarif; repeat with =FILE to write several."),
]  # fmt: skip
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", rich_help_panel=_OUTPUT, help="Write there, not to stdout."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=_OUTPUT, help="No progress bar, no colour.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", rich_help_panel=_OUTPUT, help="Every step, every block; tracebacks of bugs."),
]


def parse_exponents(text: str) -> int | Literal["all"]:
    """``all`` or a count.

    Raises:
        SettingsError: for anything else.
    """
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"--exponents: expected a whole number or 'all', got {text!r}") from None


def settings(
    *,
    lag: int | None,
    exponents: str,
    dtype: Literal["float64", "float32"],
    device: str,
    seed: int,
    layer: str,
) -> Settings:
    """The settings that the options of a measuring command ask for."""
    from rnndiag.config import Settings

    return Settings(lag=lag, exponents=parse_exponents(exponents), dtype=dtype, device=device, seed=seed, layers=layer)


def policy(select: list[str] | None, ignore: list[str] | None) -> Policy:
    """The policy that ``--select`` and ``--ignore`` ask for.

    Raises:
        SettingsError: for a code that no rule has.
    """
    from rnndiag.rules import RULES
    from rnndiag.rules.policy import Policy, check_codes

    def codes(given: list[str] | None, option: str) -> tuple[str, ...]:
        return check_codes((code for text in given or () for code in text.split(",")), RULES, option)

    return Policy(codes(select, "--select"), codes(ignore, "--ignore"))
