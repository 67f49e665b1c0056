"""``rnndiag.yaml``, or ``[tool.rnndiag]`` in pyproject.toml: found, read, and checked.

lag: 64
probe: data/probe.npy      # relative to this file
fail-on: warning
ignore: [SAT003]
thresholds: {vanishing: -4}
rules:
  SAT001: {severity: info, rate: 0.8}
layers:
  "encoder.*":
    ignore: [VAN002]
    rules:
      SAT001: {rate: 0.9}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from rnndiag.config.search import MAX_BYTES, NAMES, may_configure
from rnndiag.config.toml_file import check_integers, toml_tree
from rnndiag.errors import ConfigError
from rnndiag.files.side_files import read_text

RuleSettings = dict[str, float | str]
"""A severity, or ``off``, under ``severity``; every other key is a threshold of the rule."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    pass


class ThresholdSettings(_Strict, frozen=True):
    """Overrides of ``Thresholds``."""

    vanishing: float | None = None
    exploding: float | None = None
    saturated_slope: float | None = None
    gate_closed: float | None = None
    gate_open: float | None = None


class LayerSettings(_Strict, frozen=True):
    """What holds for the layers that match a glob."""

    ignore: tuple[str, ...] = ()
    rules: dict[str, RuleSettings] = {}


class ConfigFile(_Strict, frozen=True):
    """The whole file; None and empty: not set."""

    paths: tuple[str, ...] = ()
    probe: str | None = None
    length: int | None = None
    batch: int | None = None
    scale: float | None = None
    layout: Literal["BTD", "TBD"] | None = None
    seed: int | None = None
    lag: int | None = None
    layer: str | None = None
    nonlinearity: Literal["tanh", "relu"] | None = None
    alpha: float | None = None
    assume: str | None = None
    verify: bool | None = None
    map: tuple[str, ...] = ()
    exponents: int | Literal["all"] | None = None
    dtype: Literal["float64", "float32"] | None = None
    device: str | None = None
    treat: bool | None = None
    fail_on: Literal["error", "warning", "info", "never"] | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: ThresholdSettings = ThresholdSettings()
    rules: dict[str, RuleSettings] = {}
    layers: dict[str, LayerSettings] = {}


@dataclass(frozen=True, slots=True)
class Located:
    """A config and the file that holds it."""

    path: Path
    config: ConfigFile


def find(start: Path) -> Located | None:
    """The nearest config file from a folder upward; a pyproject.toml without ``[tool.rnndiag]`` is none.

    Raises:
        ConfigError: for a file that cannot be read or does not hold what it should.
    """
    for folder in (start, *start.parents):
        for name in NAMES:
            path = folder / name
            if may_configure(path) and (name != "pyproject.toml" or "rnndiag" in _tool_table(path)):
                return read(path)
    return None


def read(path: Path) -> Located:
    """One config file, YAML or pyproject.toml by its suffix.

    Raises:
        ConfigError: naming the file, the place in it, what was expected, and the nearest valid key.
    """
    if path.suffix == ".toml":
        tree = _tool_table(path).get("rnndiag")
        if tree is None:
            raise ConfigError(f"{path}: expected a table [tool.rnndiag], got none")
        check_integers(path, "tool.rnndiag", tree)
    else:
        from rnndiag.config.yaml_file import yaml_tree  # not for those who configure in pyproject.toml

        tree = yaml_tree(path, read_text(path, MAX_BYTES, ConfigError))
    try:
        return Located(path, msgspec.convert(tree if tree is not None else {}, ConfigFile))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explained(_named(str(error), tree))}") from error


def _tool_table(path: Path) -> dict[str, Any]:
    table = toml_tree(path, read_text(path, MAX_BYTES, ConfigError)).get("tool", {})
    return table if isinstance(table, dict) else {}


def _explained(message: str) -> str:
    """Msgspec's message with the place first, and the nearest key for an unknown one."""
    problem, _, place = message.partition(" - at `")
    if place.startswith("key` in `"):
        table = place.removeprefix("key` in `").rstrip("`").removeprefix("$").removeprefix(".")
        place = f"a key of {table or 'top level'}"
    place = place.rstrip("`").removeprefix("key in ").removeprefix("$").removeprefix(".") or "top level"
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.S)
    if problem.startswith("Invalid enum value"):
        return f"at {place}: expected {_allowed(place)}, got {problem.removeprefix('Invalid enum value ')}"
    if unknown is None:
        return f"at {place}: {problem[:1].lower()}{problem[1:]}"
    near = get_close_matches(unknown[1], list(_keys()), 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(sorted(set(_keys())))}"
    return f"at {place}: unknown key {unknown[1]!r}{hint}"


def _named(message: str, tree: Any) -> str:
    """The message with the keys that msgspec writes as ``[...]``: the first entry that fails by itself."""
    for table, kind in (("rules", RuleSettings), ("layers", LayerSettings)):
        entries = tree.get(table) if isinstance(tree, dict) else None
        if f"$.{table}[...]" not in message or not isinstance(entries, dict):
            continue
        for key, entry in entries.items():
            try:
                msgspec.convert(entry, kind)
            except msgspec.ValidationError:
                return message.replace(f"$.{table}[...]", f"$.{table}[{key!r}]", 1)
    return message


def _allowed(key: str) -> str:
    """The values that a key of the file may take, from its type."""
    hint = get_type_hints(ConfigFile).get(key.replace("-", "_"))
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    literals = [str(value) for kind in kinds for value in get_args(kind)] or [
        str(k) for k in kinds if isinstance(k, str)
    ]
    return ", ".join(["a whole number"] * (int in kinds) + literals)


def _keys() -> Iterator[str]:
    for struct in (ConfigFile, ThresholdSettings, LayerSettings):
        yield from (field.encode_name for field in msgspec.structs.fields(struct))
