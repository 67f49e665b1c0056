"""What ``rnndiag check --show-config`` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rnndiag.printable import escaped
from rnndiag.renderers.tables import titled_table
from rnndiag.rules.registry import CATALOG

if TYPE_CHECKING:
    from rich.table import Table

    from rnndiag.cli.choices import Choices


def config_table(chosen: Choices) -> Table:
    """Every setting with its value and where it came from, then the rules' own settings.

    Raises:
        SettingsError: for rule settings that do not hold, as a run would.
    """
    policy = chosen.policy
    table = titled_table("Configuration in force")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold", style="dim")
    for name, origin in chosen.origins.items():
        value = getattr(chosen.values, name)
        table.add_row(name.replace("_", "-"), _shown(value), escaped(origin))
    file = "default" if chosen.file is None else escaped(str(chosen.file.path))
    given = None if chosen.file is None else chosen.file.config.thresholds
    for name, value in asdict(chosen.thresholds).items():
        changed = given is not None and getattr(given, name) is not None
        table.add_row(f"thresholds.{name.replace('_', '-')}", _shown(value), file if changed else "default")
    for rule in CATALOG:
        for name, value in rule.thresholds.items():
            table.add_row(
                f"rules.{rule.code}.{name}",
                _shown(policy.thresholds(rule, "*")[name]),
                _origin(policy.thresholds(rule, "*")[name] != value, file),
            )
    for override in policy.overrides:
        if override.layers == "*" and override.severity is None and not override.off:
            continue
        place = "rules" if override.layers == "*" else f"layers[{override.layers!r}].rules"
        settings: dict[str, object] = dict(override.thresholds)
        if override.off or override.severity:
            settings["severity"] = "off" if override.off else override.severity
        for name, value in settings.items():
            table.add_row(escaped(f"{place}.{override.code}.{name}"), _shown(value), file)
    return table


def _origin(changed: bool, file: str) -> str:
    return file if changed else "default"


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return escaped(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
