"""``rnndiag trend``: many checkpoints of one run in training order."""

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from rnndiag.cli.choices import choose
from rnndiag.cli.gate import FAILED, fails
from rnndiag.cli.options import (
    FAIL_ON_HELP,
    RULES,
    FleetOptions,
    MeasureOptions,
    ModelOptions,
    OutputOptions,
    ProbeOptions,
    RuleOptions,
    format_option,
)
from rnndiag.cli.run_models import ModelRun
from rnndiag.cli.short_text import print_findings, severity_counts
from rnndiag.cli.spread_options import option_group, spread_options
from rnndiag.renderers.registry import TREND

if TYPE_CHECKING:
    from rnndiag.trend.data import Trend

By = Annotated[
    Literal["auto", "step", "name", "time", "given"],
    typer.Option("--order", help="Training order: by the step in the files, the number in their names, the time they "
                 "were written, or as given; auto takes the first that all of them tell."),
]  # fmt: skip


@option_group
class TrendRuleOptions(RuleOptions):
    """Which rules apply to a run, and when the command fails."""

    treat: bool | None = False
    """a trend makes no suggestions"""
    fail_on: Annotated[
        Literal["error", "warning", "info", "never"],
        typer.Option("--fail-on", rich_help_panel=RULES, help=FAIL_ON_HELP),
    ] = "never"


@option_group
class TrendOutputOptions(OutputOptions):
    """Where a trend goes."""

    formats: Annotated[list[str] | None, format_option(TREND)] = None

    result_formats: ClassVar[Collection[str]] = TREND


@spread_options(leave_out=["treat", "resume"])
def trend(
    models: ModelOptions,
    order: By = "auto",
    *,
    probe: ProbeOptions,
    measure: MeasureOptions,
    rules: TrendRuleOptions,
    output: TrendOutputOptions,
    fleet: FleetOptions,
) -> int:
    """Many checkpoints of one run in training order: each measure over training, and where it is heading."""
    chosen = choose(rules, models, probe, measure, of_runs=True)
    run = ModelRun.checked(chosen, models, output, fleet)
    measured = run.measure()
    if measured.interrupted:
        return measured.code  # a part of a run has another trend
    if measured.code and not measured.reports:
        return measured.code  # each refusal has been reported
    from rnndiag import trend as runs
    from rnndiag.renderers import trend_table

    result = runs.trend(measured.reports, order=order, policy=chosen.policy)
    brief = partial(_print_brief, result, rules.fail_on, quiet=output.quiet) if run.outputs.without_stdout else None
    run.outputs.deliver(result, TREND, trend_table.render, brief=brief)
    return max(measured.code, FAILED if fails(result.findings, rules.fail_on) else 0)


def _print_brief(result: "Trend", fail_on: str, *, quiet: bool) -> None:
    first, last = result.points[0].path, result.points[-1]
    counts = f"Measured {len(result.points)} checkpoints: {severity_counts(result.findings)}."
    print_findings(f"{first} to {last.path}: {last.verdict} at last", result.findings, fail_on, counts, quiet=quiet)
