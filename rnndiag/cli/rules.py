"""``rnndiag rules`` and ``rnndiag explain``: the catalogue, and one rule's page."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from rnndiag.cli.streams import print_table, print_text
from rnndiag.errors import SettingsError
from rnndiag.printable import json_text


def rules(
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """List the rules: code, name, severity, default threshold."""
    from rnndiag.rules.page import page
    from rnndiag.rules.registry import CATALOG

    listed = [(rule, page(rule).sections["Thresholds"].rstrip(".")) for rule in CATALOG]
    if format_ == "json":
        document = [
            {"code": rule.code, "name": rule.name, "severity": rule.severity, "threshold": threshold}
            for rule, threshold in listed
        ]
        print_text(json_text(document), "json")
        return
    from rich.text import Text

    from rnndiag.renderers.styles import SEVERITY_STYLES
    from rnndiag.renderers.tables import titled_table

    table = titled_table("Rules (rnndiag explain CODE prints a rule's page)")
    for heading in ("code", "name", "severity"):
        table.add_column(heading, no_wrap=True)
    table.add_column("fires at", overflow="fold")
    for rule, threshold in listed:
        table.add_row(
            rule.code, rule.name, Text(rule.severity, SEVERITY_STYLES[rule.severity]), threshold.replace("`", "")
        )
    print_table(table)


def explain(code: Annotated[str, typer.Argument(metavar="CODE", help="Such as VAN001, or a rule's name.")]) -> None:
    """Print one rule's page."""
    from difflib import get_close_matches

    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from rnndiag.renderers.styles import SEVERITY_STYLES
    from rnndiag.rules.page import page
    from rnndiag.rules.registry import CATALOG

    by_key = {key: rule for rule in CATALOG for key in (rule.code.lower(), rule.name)}
    rule = by_key.get(code.lower())
    if rule is None:
        near = get_close_matches(code.lower(), by_key, 1, 0.5)
        hint = f"; did you mean {by_key[near[0]].code} {by_key[near[0]].name}?" if near else ""
        raise SettingsError(f"no rule {code!r}{hint} (rnndiag rules lists them)")
    parts = page(rule)
    style = SEVERITY_STYLES[rule.severity]
    heading = Text.assemble((f"{rule.code} {rule.name}", "bold"), " (", (rule.severity, style), ")")
    body = [
        Group(Text(f"\n{name}", style="bold"), Padding(text.replace("`", ""), (0, 0, 0, 2)))
        for name, text in parts.sections.items()
    ]
    print_table(Group(heading, parts.title, *body))
