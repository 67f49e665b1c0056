"""``rnndiag check``: the gate for CI."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rnndiag.cli.choices import choose
from rnndiag.cli.destinations import Destination, write
from rnndiag.cli.gate import FAILED, Gate
from rnndiag.cli.options import (
    RULES,
    FleetOptions,
    MeasureOptions,
    ModelOptions,
    OutputOptions,
    ProbeOptions,
    RuleOptions,
)
from rnndiag.cli.run_models import Measured, ModelRun
from rnndiag.cli.short_text import ShortText
from rnndiag.cli.spread_options import option_group, spread_options
from rnndiag.cli.stderr import print_error
from rnndiag.cli.streams import print_table
from rnndiag.errors import SettingsError
from rnndiag.renderers.registry import REPORTS, SEVERAL_REPORTS


@option_group
class GateOptions:
    """What the findings are compared with, and where the gate keeps its reports."""

    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="FILE", rich_help_panel=RULES,
                     help="Report only what is new or worse than in this report or checkpoint."),
    ] = None  # fmt: skip
    write_baseline: Annotated[
        Path | None,
        typer.Option("--write-baseline", metavar="FILE", rich_help_panel=RULES, help="Keep this run's reports there."),
    ] = None
    show_config: Annotated[
        bool,
        typer.Option("--show-config", rich_help_panel=RULES, help="Print what is in force and from where, and stop."),
    ] = False

    @property
    def kept(self) -> Destination | None:
        """The file of --write-baseline.

        It may replace the report of --baseline: this is how a new state is accepted.
        """
        if self.write_baseline is None:
            return None
        from rnndiag.comparison.baseline import is_report

        accepted = self.baseline if self.baseline is not None and is_report(self.baseline) else None
        return Destination(self.write_baseline, "--write-baseline", rewrites=accepted)


@spread_options()
def check(
    models: ModelOptions,
    probe: ProbeOptions,
    measure: MeasureOptions,
    rules: RuleOptions,
    gate: GateOptions,
    output: OutputOptions,
    fleet: FleetOptions,
) -> int:
    """The gate for CI: a line a model and each finding; exits with 1 at or above --fail-on."""
    chosen = choose(rules, models, probe, measure)
    if gate.show_config:
        from rnndiag.cli.show_config import config_table

        print_table(config_table(chosen), quiet=output.quiet)
        return 0
    kept, baseline = gate.kept, gate.baseline
    reads, writes = [] if baseline is None else [baseline], [] if kept is None else [kept]
    run = ModelRun.checked(chosen, models, output, fleet, reads=reads, writes=writes)
    if fleet.resume and (reads or writes):
        raise SettingsError("--resume with a baseline: what was written before was held to none; leave out one of them")
    return _judge(run, Gate(chosen, baseline, keep=kept is not None), kept)


def _judge(run: ModelRun, gate: Gate, kept: Destination | None) -> int:
    """Measure and judge the models, write what was found, and return the exit code."""
    from rnndiag.renderers import lines

    outputs, short = run.outputs, ShortText(run.chosen.values.fail_on)
    measured = run.measure(short.after(gate), each_digest=gate.baseline_digest)
    written, brief = [], None
    if outputs.without_stdout and not measured.interrupted:
        none = "nothing new" if gate.known else "nothing found"
        brief = partial(short.show, "Checked", none, failed=measured.failed, quiet=outputs.quiet)
    try:
        if kept is not None:
            written += _write_baseline(kept, gate, measured, force=outputs.force)
    finally:  # show the findings even if the baseline could not be written
        text = partial(lines.render, known=gate.known, failed=measured.failed)
        run.deliver(measured, text, brief=brief, also=written)
    return max(measured.code, FAILED if gate.failed else 0)


def _write_baseline(kept: Destination, gate: Gate, measured: Measured, *, force: bool) -> list[Path]:
    """Write the baseline, and return its file if it was written."""
    if measured.code:
        print_error(f"--write-baseline: {kept.file} is not written, since not every model was measured")
        return []
    whole = [gate.full_reports[index] for index in sorted(gate.full_reports)]
    formats = SEVERAL_REPORTS if measured.several else REPORTS
    write(kept, formats["json"].render(whole).encode(), force=force)
    return [kept.file]
