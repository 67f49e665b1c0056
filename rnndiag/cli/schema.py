"""``rnndiag schema``: the JSON Schema of a report."""

from __future__ import annotations

from importlib.resources import files

from rnndiag.cli.streams import print_text


def schema() -> None:
    """Print the JSON Schema of ``--format json``."""
    print_text(files("rnndiag").joinpath("report.schema.json").read_text(encoding="utf-8"), "json")
