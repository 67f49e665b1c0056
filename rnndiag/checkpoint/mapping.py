"""A user's word for which tensors are what: ``hh=*.U,ih=*.W,cell=gru,order=zrh``."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rnndiag.checkpoint.arrange import CANONICAL, ROLES, Convention, canonical_order
from rnndiag.checkpoint.contents import MAX_NAME
from rnndiag.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnndiag.checkpoint.renamed import Renamed

_WORDS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "cell": {
        "tanh": {"cell": "rnn", "nonlinearity": "tanh"},
        "relu": {"cell": "rnn", "nonlinearity": "relu"},
        "gru": {"cell": "gru"},
        "lstm": {"cell": "lstm"},
    },
    "layout": {"rows": {"layout": "rows"}, "columns": {"layout": "columns"}},
    "reset": {"after": {"reset_after": True}, "before": {"reset_after": False}},
}
"""The settings that take one of a few words, and what each means."""

_EXAMPLE: Final = (
    'expected such as "hh=*.U,ih=*.W,cell=gru", and as needed bias, bias_ih, bias_hh, order, layout, reset'
)


@dataclass(frozen=True, slots=True)
class RoleMap:
    """One mapping: which tensors have which role, and what is known of their module."""

    text: str
    """As the user wrote it."""
    patterns: dict[str, re.Pattern[str]]
    """By role; each ``*`` is a group, and tensors whose groups agree are of one module."""
    known: Convention

    def apply(self, container: Renamed) -> int:
        """Rename the tensors that match; how many modules they made.

        Raises:
            UnfitError: tensors of one module that do not fit each other.
        """
        modules: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
        for role, pattern in self.patterns.items():
            for name in container.tensors:
                match = pattern.fullmatch(name) if len(name) <= MAX_NAME else None
                if match:
                    modules[match.groups()][role] = name
        whole = {groups: names for groups, names in modules.items() if {"hh", "ih"} <= names.keys()}
        for groups, names in whole.items():
            container.take(names, self.known, _path(groups, names))
        return len(whole)


def parse_map(text: str, where: str = "--map") -> RoleMap:
    """A mapping from its one-line form.

    Raises:
        SettingsError: for anything but that form; the message begins with ``where``.
    """
    told: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value) or key in told or key not in (*ROLES, *_WORDS, "order"):
            raise SettingsError(f"{where} {text!r}: {part.strip() or 'nothing'!r} is not understood; {_EXAMPLE}")
        told[key] = value
    missing = [role for role in ("hh", "ih") if role not in told]
    if missing:
        raise SettingsError(f"{where} {text!r}: {missing[0]}= is missing; {_EXAMPLE}")
    stars = {told[role].count("*") for role in ROLES if role in told}
    if len(stars) > 1:
        raise SettingsError(
            f"{where} {text!r}: all patterns must have as many *, which stand for the same text in each"
        )
    patterns: dict[str, re.Pattern[str]] = {role: _compiled(told[role]) for role in ROLES if role in told}
    return RoleMap(text, patterns, _convention(told, text, where))


def _convention(told: dict[str, str], text: str, where: str) -> Convention:
    known: dict[str, Any] = {}
    for key, words in _WORDS.items():
        if key in told:
            if told[key] not in words:
                raise SettingsError(f"{where} {text!r}: {key}: expected {', '.join(words)}, got {told[key]!r}")
            known |= words[told[key]]
    if "order" in told:
        cell = known.get("cell")
        if cell not in ("gru", "lstm") or canonical_order(cell, told["order"]) is None:
            orders = " or ".join(f"{kind} with the letters {CANONICAL[kind]}" for kind in ("gru", "lstm"))
            raise SettingsError(
                f"{where} {text!r}: order: expected cell={orders} in the file's order, got {told['order']!r}"
            )
        known["order"] = told["order"]
    if "reset" in told and known.get("cell") != "gru":
        raise SettingsError(f"{where} {text!r}: reset is a GRU's: expected cell=gru beside it")
    return Convention(**known)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _path(groups: Iterable[str], names: dict[str, str]) -> str:
    """What the stars stand for; without stars, what the names begin with."""
    if any(groups):
        return ".".join(part.strip("._/") for part in groups if part)
    start = 0
    hh, ih = names["hh"], names["ih"]
    while start < min(len(hh), len(ih)) and hh[start] == ih[start]:
        start += 1
    return hh[:start].rpartition(".")[0] or hh[:start].strip("._/")
