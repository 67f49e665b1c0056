"""``rnndiag inspect``: diagnose saved models."""

from functools import partial

from rnndiag.cli.choices import choose
from rnndiag.cli.options import FleetOptions, MeasureOptions, ModelOptions, OutputOptions, ProbeOptions, RuleOptions
from rnndiag.cli.output import full_table
from rnndiag.cli.run_models import ModelRun, unchanged
from rnndiag.cli.short_text import ShortText
from rnndiag.cli.spread_options import spread_options


@spread_options(leave_out=["fail_on"])
def inspect(
    models: ModelOptions,
    probe: ProbeOptions,
    measure: MeasureOptions,
    rules: RuleOptions,
    output: OutputOptions,
    fleet: FleetOptions,
) -> int:
    """Diagnose saved models: step Jacobians, gradients through time, a verdict, what to try.

    No code in a file is ever run; only --import runs code, which is your own.
    """
    run = ModelRun.checked(choose(rules, models, probe, measure), models, output, fleet)
    short = ShortText()
    measured = run.measure(short.after(unchanged) if run.fleet.only_stream else None)
    shows_short = run.fleet.only_stream and not measured.interrupted
    brief = partial(short.show, "Measured", failed=measured.failed, quiet=output.quiet) if shows_short else None
    run.deliver(measured, partial(full_table, verbose=output.verbose), brief=brief)
    return measured.code
