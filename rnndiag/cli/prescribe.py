"""``rnndiag prescribe``: what would help a model, tried on copies of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.output import check_writable, print_or_write
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import OutputError

if TYPE_CHECKING:
    from rnndiag.prescription import Prescription

_TREATMENT = "Treatment"

Treatments = Annotated[
    str,
    typer.Option("--treatment", metavar="GLOB", rich_help_panel=_TREATMENT, help="Try only treatments of these names."),
]
Take = Annotated[
    str | None,
    typer.Option("--take", metavar="NAME", rich_help_panel=_TREATMENT, show_default="the best",
                 help="Choose this treatment, even for a healthy model."),
]  # fmt: skip
Save = Annotated[
    Path | None,
    typer.Option("-o", "--save", metavar="FILE", rich_help_panel=_TREATMENT,
                 help="Write the model under the chosen treatment, in its own format."),
]  # fmt: skip
Force = Annotated[bool, typer.Option("--force", rich_help_panel=_TREATMENT, help="Let --save overwrite a file.")]
Layer = Annotated[
    str | None,
    typer.Option("--layer", metavar="GLOB", show_default="*", rich_help_panel=_TREATMENT,
                 help="Report and treat only these layers; a stack is measured whole."),
]  # fmt: skip
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", rich_help_panel="Output", help="Write there, not to stdout.")
]


def prescribe(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A saved model.")],
    treatment: Treatments = "*",
    take: Take = None,
    save: Save = None,
    force: Force = False,
    length: opt.Length = None,
    lag: opt.Lag = None,
    batch: opt.Batch = None,
    seed: opt.Seed = None,
    probe: opt.ProbeSpec = None,
    scale: opt.Scale = None,
    layer: Layer = None,
    nonlinearity: opt.Nonlinearity = None,
    map: opt.Map = None,  # noqa: A002  # the option is called so
    exponents: opt.Exponents = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    config: opt.Config = None,
    select: opt.Select = None,
    ignore: opt.Ignore = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", rich_help_panel="Output")] = "table",
    output: Output = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """Try what would help a model on copies of it, measure each, and rank them; -o writes the best."""
    chosen = choose(locals(), config)
    if output is not None:
        check_writable(output, (path,))
    if save is not None and output is not None and output.resolve() == save.resolve():
        raise OutputError(f"{save}: cannot hold both the model (-o) and the report; name two files")
    from rnndiag import api
    from rnndiag.renderers import prescription as rendered

    results: list[Prescription] = []
    interrupts = Interrupts()

    def keep(result: Prescription) -> None:
        results.append(result)
        interrupts.holds_results = True

    try:
        with progress_bar(path, quiet=quiet) as progress, interrupts.active(), interrupts.waiting():
            api.prescribe(
                path,
                probe=chosen.probe,
                nonlinearity=chosen["nonlinearity"],
                mapping=chosen.maps,
                settings=chosen.settings,
                policy=chosen.policy,
                treatments=treatment,
                take=take,
                save=save,
                force=force,
                progress=progress,
                measured=keep,
            )
    finally:  # what was measured is told, whether or not the model could be written
        for result in results:
            text = rendered.as_json(result) if format_ == "json" else rendered.table(result, verbose=verbose)
            print_or_write(text, output, quiet=quiet)
    if save is not None and not quiet:
        typer.echo(f"rnndiag: {save}: the model under {results[0].chosen}, in its own format", err=True)
    return 0
