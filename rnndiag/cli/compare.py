"""``rnndiag compare``: what changed between two checkpoints."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from rnndiag.cli.choices import Choices, choose
from rnndiag.cli.gate import FAILED, fails
from rnndiag.cli.options import MeasureOptions, OutputOptions, ProbeOptions, RuleOptions, format_option
from rnndiag.cli.progress import progress_bar
from rnndiag.cli.short_text import print_findings, severity_counts
from rnndiag.cli.spread_options import option_group, spread_options
from rnndiag.errors import BaselineError
from rnndiag.renderers.registry import COMPARISON

if TYPE_CHECKING:
    from rnndiag.comparison.compare import Comparison
    from rnndiag.report import Report

Base = Annotated[str, typer.Argument(metavar="BASE", help="A checkpoint, or a report written by --format json.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The checkpoint or report to compare with BASE.")]


@option_group
class CompareOutputOptions(OutputOptions):
    """Where a comparison goes."""

    formats: Annotated[list[str] | None, format_option(COMPARISON)] = None

    result_formats: ClassVar[Collection[str]] = COMPARISON


@spread_options(leave_out=["treat"])
def compare(
    base: Base,
    new: New,
    probe: ProbeOptions,
    measure: MeasureOptions,
    rules: RuleOptions,
    output: CompareOutputOptions,
) -> int:
    """What changed from BASE to NEW, and what of it is significant; exits with 1 on a regression."""
    chosen = choose(rules, probe, measure)
    outputs = output.checked([base, new, *chosen.input_files])
    from rnndiag.comparison.baseline import match
    from rnndiag.comparison.compare import compare as compared
    from rnndiag.renderers import comparison_table

    old_report, new_report = (_report(path, chosen, quiet=output.quiet) for path in (base, new))
    result = compared(match(new_report, [old_report], base), new_report)
    fail_on = chosen.values.fail_on
    brief = partial(_print_brief, result, fail_on, quiet=output.quiet) if outputs.without_stdout else None
    outputs.deliver(result, COMPARISON, comparison_table.render, brief=brief)
    return FAILED if fails(result.findings.worse, fail_on) else 0


def _print_brief(result: "Comparison", fail_on: str, *, quiet: bool) -> None:
    worse = result.findings.worse
    last = f"Compared with {result.base}: {severity_counts(worse, 'nothing is worse')}."
    print_findings(f"{result.new}: {result.verdicts[1]}", worse, fail_on, last, quiet=quiet)


def _report(path: str, chosen: Choices, *, quiet: bool) -> "Report":
    from rnndiag.comparison.baseline import is_report, read_reports

    if not is_report(Path(path)):
        with progress_bar(path, quiet=quiet) as progress:
            return chosen.inspect(path, treat=False, progress=progress)  # a comparison shows no suggestions
    reports = read_reports(Path(path))
    if len(reports) != 1:
        raise BaselineError(f"{path}: expected one report, got {len(reports)}")
    return reports[0]
