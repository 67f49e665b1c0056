"""``rnndiag prescribe``: what would help a model, tried on copies of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnndiag.cli import options as opt
from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import Destination, acknowledge, check_destinations
from rnndiag.cli.inputs import read_by
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.measuring import warn
from rnndiag.cli.output import deliver, destinations, parse_targets
from rnndiag.cli.progress import progress_bar
from rnndiag.errors import SettingsError

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
    typer.Option("--save", metavar="FILE", rich_help_panel=_TREATMENT,
                 help="Write the model under the chosen treatment, in its own format."),
]  # fmt: skip
OldSave = Annotated[
    Path | None,
    typer.Option("-o", metavar="FILE", rich_help_panel=_TREATMENT, help="Deprecated name of --save."),
]
Layer = Annotated[
    str | None,
    typer.Option("--layer", metavar="GLOB", show_default="*", rich_help_panel=_TREATMENT,
                 help="Report and treat only these layers; a stack is measured whole."),
]  # fmt: skip
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", rich_help_panel="Output", help="Write the report to FILE.")
]
FORMATS = ("table", "json")


def prescribe(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A saved model.")],
    treatment: Treatments = "*",
    take: Take = None,
    save: Save = None,
    old_save: OldSave = None,
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
    formats: opt.TableOrJson = None,
    output: Output = None,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> int:
    """Try treatments on copies of a model, measure each copy, and rank the treatments; --save writes the best one."""
    chosen = choose(locals(), config)
    if save is not None and old_save is not None:
        raise SettingsError("-o and --save: -o is the deprecated name of --save; leave out -o")
    target = save or old_save
    saved = [] if target is None else [Destination(target, "--save" if save else "-o", "model", model=path)]
    targets = parse_targets(formats or (), output, FORMATS)
    check_destinations([*destinations(targets), *saved], read_by(chosen, [path]), force=force, saves=True)
    from rnndiag import api
    from rnndiag.renderers import prescription as rendered

    results: list[Prescription] = []
    written: list[Path] = []
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
                save=target,
                force=force,
                progress=progress,
                measured=keep,
            )
        written += [] if target is None else [target]
    finally:  # show the report even if the model could not be written, and the other way round
        try:
            for result in results:
                text, table = partial(_json, result), partial(rendered.table, result, verbose=verbose)
                deliver(targets, text, table, force=force, quiet=quiet)
        finally:
            acknowledge(written, f": the model under {results[0].chosen}" if results else "", quiet=quiet)
    if old_save is not None:
        warn(
            f"-o is a deprecated name of --save in this command and will mean --output in a later release; use --save "
            f"{old_save}"
        )
    return 0


def _json(result: Prescription, format_: str) -> str:
    from rnndiag.renderers.prescription import as_json

    del format_  # the only text format of this command
    return as_json(result)
