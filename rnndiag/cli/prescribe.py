"""``rnndiag prescribe``: what would help a model, tried on copies of it."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from rnndiag.cli.choices import Choices, choose
from rnndiag.cli.destinations import Destination, acknowledge
from rnndiag.cli.interrupts import Interrupts
from rnndiag.cli.options import OUTPUT, MeasureOptions, OutputOptions, ProbeOptions, RuleOptions, format_option
from rnndiag.cli.output import Outputs
from rnndiag.cli.progress import progress_bar
from rnndiag.cli.spread_options import option_group, spread_options
from rnndiag.cli.stderr import print_warning
from rnndiag.errors import SettingsError
from rnndiag.renderers.registry import PRESCRIPTION

if TYPE_CHECKING:
    from rnndiag.prescription import Prescription

TREATMENT = "Treatment"
"""A panel of ``--help``."""


@option_group
class TreatmentOptions:
    """Which treatments are tried, and what becomes of the chosen treatment."""

    treatment: Annotated[
        str,
        typer.Option("--treatment", metavar="GLOB", rich_help_panel=TREATMENT,
                     help="Try only treatments of these names."),
    ] = "*"  # fmt: skip
    take: Annotated[
        str | None,
        typer.Option("--take", metavar="NAME", rich_help_panel=TREATMENT, show_default="the best",
                     help="Choose this treatment, even for a healthy model."),
    ] = None  # fmt: skip
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", rich_help_panel=TREATMENT,
                     help="Write the model under the chosen treatment, in its own format."),
    ] = None  # fmt: skip
    old_save: Annotated[
        Path | None,
        typer.Option("-o", metavar="FILE", rich_help_panel=TREATMENT, help="Deprecated name of --save."),
    ] = None

    def destination(self, model: str) -> Destination | None:
        """The file for the treated model.

        Raises:
            SettingsError: if both names of the option are given.
        """
        if self.save is not None and self.old_save is not None:
            raise SettingsError("-o and --save: -o is the deprecated name of --save; leave out -o")
        if self.save is not None:
            return Destination(self.save, "--save", "model", model=model)
        return None if self.old_save is None else Destination(self.old_save, "-o", "model", model=model)


@option_group
class PrescribeMeasureOptions(MeasureOptions):
    """How to read the model and measure it, and which layers are treated."""

    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="GLOB", show_default="*", rich_help_panel=TREATMENT,
                     help="Report and treat only these layers; a stack is measured whole."),
    ] = None  # fmt: skip


@option_group
class PrescribeOutputOptions(OutputOptions):
    """Where a prescription goes."""

    formats: Annotated[list[str] | None, format_option(PRESCRIPTION)] = None
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", rich_help_panel=OUTPUT, help="Write the report to FILE.")
    ] = None

    result_formats: ClassVar[Collection[str]] = PRESCRIPTION


@spread_options(leave_out=["treat", "fail_on"])
def prescribe(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A saved model.")],
    treatment: TreatmentOptions,
    probe: ProbeOptions,
    measure: PrescribeMeasureOptions,
    rules: RuleOptions,
    output: PrescribeOutputOptions,
) -> int:
    """Try treatments on copies of a model, measure each copy, and rank the treatments; --save writes the best one."""
    chosen = choose(rules, probe, measure)
    saved = treatment.destination(path)
    outputs = output.checked([path, *chosen.input_files], also=[] if saved is None else [saved], saves=True)
    _prescribe(path, treatment, saved, chosen, outputs, verbose=output.verbose)
    if treatment.old_save is not None:
        print_warning(
            f"-o is a deprecated name of --save in this command and will mean --output in a later release; use --save "
            f"{treatment.old_save}"
        )
    return 0


def _prescribe(
    path: str,
    treatment: TreatmentOptions,
    saved: Destination | None,
    chosen: Choices,
    outputs: Outputs,
    *,
    verbose: bool,
) -> None:
    from rnndiag import api
    from rnndiag.renderers import prescription_table

    results: list[Prescription] = []
    written: list[Path] = []
    interrupts = Interrupts()

    def keep(result: "Prescription") -> None:
        results.append(result)
        interrupts.holds_results = True

    try:
        with progress_bar(path, quiet=outputs.quiet) as progress, interrupts.active(), interrupts.waiting():
            api.prescribe(
                path,
                probe=chosen.probe,
                nonlinearity=chosen.values.nonlinearity,
                alpha=chosen.alpha,
                mapping=chosen.maps,
                assume=chosen.values.assume,
                verify=chosen.values.verify,
                settings=chosen.settings,
                policy=chosen.policy,
                treatments=treatment.treatment,
                take=treatment.take,
                save=None if saved is None else saved.file,
                force=outputs.force,
                progress=progress,
                measured=keep,
            )
        written += [] if saved is None else [saved.file]
    finally:  # show the report even if the model could not be written, and the other way round
        try:
            for result in results:
                outputs.deliver(result, PRESCRIPTION, partial(prescription_table.render, verbose=verbose))
        finally:
            detail = f": the model under {results[0].chosen}" if results else ""
            acknowledge(written, detail, quiet=outputs.quiet)
