"""``rnndiag schema``: the JSON Schema of a report."""

from __future__ import annotations

from importlib.resources import files

import typer


def schema() -> None:
    """Print the JSON Schema of ``--format json``."""
    typer.echo(files("rnndiag").joinpath("report.schema.json").read_text(encoding="utf-8"), nl=False)
