"""The command line: arguments in, exit code out.

Nothing heavy is imported here: commands import what they need when they run, so that ``--help`` is
instant.
"""

from __future__ import annotations

from typing import Annotated

import typer

from rnndiag.cli.check import check
from rnndiag.cli.compare import compare
from rnndiag.cli.inspect import inspect
from rnndiag.cli.prescribe import prescribe
from rnndiag.cli.rules import explain, rules
from rnndiag.cli.schema import schema
from rnndiag.cli.simulate import simulate
from rnndiag.cli.streams import print_text
from rnndiag.cli.sweep import sweep
from rnndiag.cli.trend import trend
from rnndiag.version import __version__

app = typer.Typer(
    name="rnndiag",
    help="Why a recurrent net will not learn, blows up, or is about to ship broken.",
    epilog="Exit codes: 0 done; 1 findings at or above --fail-on (check); 2 bad input; 3 a bug; 130 interrupted; "
    "143, 129 ended by SIGTERM, SIGHUP.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(inspect)
app.command()(simulate)
app.command()(sweep)
app.command()(check)
app.command()(compare)
app.command()(prescribe)
app.command()(trend)
app.command()(rules)
app.command()(explain)
app.command()(schema)


def _version(wanted: bool) -> None:
    if wanted:
        print_text(f"rnndiag {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Why a recurrent net will not learn, blows up, or is about to ship broken."""
