"""A user's word for which tensors are what: ``hh=*.U,ih=*.W,cell=gru,order=zrh``."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rnndiag.checkpoint.contents import MAX_NAME_CHARACTERS
from rnndiag.checkpoint.layers.convention import CANONICAL, canonical_order, split_joined
from rnndiag.checkpoint.layers.leak import checked_alpha
from rnndiag.checkpoint.layers.leaves import dtype_of, forget_bias, shape
from rnndiag.errors import SettingsError
from rnndiag.files.globs import Pieces
from rnndiag.parsers.parsed import ROLES, Convention
from rnndiag.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnndiag.checkpoint.layers.renamed import Renamed

_WORDS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "cell": {
        "tanh": {"cell": "rnn", "nonlinearity": "tanh"},
        "relu": {"cell": "rnn", "nonlinearity": "relu"},
        "linear": {"cell": "rnn", "kind": "linear"},
        "leaky_tanh": {"cell": "rnn", "kind": "leaky_tanh"},
        "leaky_relu": {"cell": "rnn", "kind": "leaky_relu"},
        "leaky_current_tanh": {"cell": "rnn", "kind": "leaky_current_tanh"},
        "leaky_current_relu": {"cell": "rnn", "kind": "leaky_current_relu"},
        "gru": {"cell": "gru"},
        "lstm": {"cell": "lstm"},
    },
    "layout": {"rows": {"layout": "rows"}, "columns": {"layout": "columns"}},
    "reset": {"after": {"reset_after": True}, "before": {"reset_after": False}},
}
"""The settings that take one of a few words, and what each means."""

GATE: Final = "{gate}"
"""In a pattern, the letter of a gate in ``order``, where each gate's block is a tensor of its own."""

SHOWN: Final = 200
"""Characters of an option that an error repeats."""

_EXAMPLE: Final = (
    'expected such as "hh=*.U,ih=*.W,cell=gru", and as needed bias, bias_ih, bias_hh, order, layout, reset, alpha, '
    "forget; xh in place of hh and ih"
)
_KEYS: Final = (*ROLES, "xh", "order", "alpha", "forget")


@dataclass(frozen=True, slots=True)
class RoleMap:
    """One mapping: which tensors have which role, and what is known of their module."""

    text: str
    """As the user wrote it."""
    patterns: dict[str, Pieces]
    """The patterns by role. Tensors belong to one module if the stars match the same texts in their names."""
    known: Convention
    alpha: float | None = None
    """The leak of a leaky RNN, where it is given as a number."""
    forget: float | None = None
    """What the model adds to the forget bias of an LSTM without storing it."""

    def apply(self, container: Renamed) -> int:
        """Rename the tensors that match; how many modules they made.

        Raises:
            UnfitError: tensors of one module that do not fit each other.
        """
        modules: defaultdict[tuple[str, ...], defaultdict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        for role, pattern in self.patterns.items():
            for name in container.tensors:
                match = pattern.match(name) if len(name) <= MAX_NAME_CHARACTERS else None
                if match:
                    modules[match.stars][role][match.named.get("gate", "")] = name
        whole = {stars: names for stars, names in modules.items() if {"hh", "ih"} <= names.keys() or "xh" in names}
        for stars, names in whole.items():
            first = {role: next(iter(each.values())) for role, each in names.items()}
            path, known = _path(stars, first), self.known
            if any("gate" in piece.groupindex for pattern in self.patterns.values() for piece in pattern.between):
                in_order = {
                    role: [each[gate] for gate in known.order or "" if gate in each] for role, each in names.items()
                }
                container.take_gates(in_order, known, path)
            else:
                self._take(container, first, path)
            if self.alpha is not None:
                container.facts[path] = replace(container.facts[path], alpha=self.alpha)
            container.scopes[path] = None
        return len(whole)

    def _take(self, container: Renamed, names: Mapping[str, str], path: str) -> None:
        held, known = {role: container.tensors[name] for role, name in names.items()}, self.known
        extra = {"alpha": held.pop("alpha")} if "alpha" in held else {}
        if "xh" in held:
            bias = held.get("bias", held.get("bias_ih"))
            split, known = split_joined(held.pop("xh"), known, bias)
            held |= split
        if self.forget is not None:
            units = max(shape(held["hh"])) // 4
            held["bias_hh"] = forget_bias(units, known.order or CANONICAL["lstm"], self.forget, dtype_of(held["hh"]))
            if "bias" in held:
                held["bias_ih"] = held.pop("bias")
        container.take_leaves(held, names.values(), known, path, extra=extra)


def parse_map(text: str, where: str = "--map") -> RoleMap:
    """A mapping from its one-line form.

    Raises:
        SettingsError: for anything but that form; the message begins with ``where``.
    """
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value) or key in values or key not in (*_KEYS, *_WORDS):
            raise SettingsError(f"{where} {cut(text)}: {cut(part.strip() or 'nothing')} is not understood; {_EXAMPLE}")
        values[key] = value
    _check_joined(values, text, where)
    missing = [role for role in ("hh", "ih") if role not in values and "xh" not in values]
    if missing:
        raise SettingsError(f"{where} {cut(text)}: {missing[0]}= is missing; {_EXAMPLE}")
    alpha = _alpha(values, text, where)
    forget = _forget(values, text, where)
    named = [role for role in (*ROLES, "xh", "alpha") if role in values]
    stars = {values[role].count("*") for role in named}
    if len(stars) > 1:
        raise SettingsError(
            f"{where} {cut(text)}: all patterns must have as many *, which stand for the same text in each"
        )
    known = _convention(values, text, where)
    gates = {values[role].count(GATE) for role in named}
    if gates != {0} and (gates != {1} or known.cell not in CANONICAL or known.cell == "rnn"):
        raise SettingsError(f"{where} {cut(text)}: {GATE} belongs once into every pattern, with cell=gru or cell=lstm")
    if gates == {1} and known.order is None:
        known = replace(known, order=CANONICAL[known.cell or "lstm"])
    patterns = {role: _compiled(values[role], known.order) for role in named}
    return RoleMap(text, patterns, known, alpha, forget)


def _check_joined(values: dict[str, str], text: str, where: str) -> None:
    """Refuse what does not go with one weight of input and state."""
    if "xh" not in values:
        return
    if {"hh", "ih"} & values.keys():
        raise SettingsError(f"{where} {cut(text)}: xh= stands for hh= and ih=: leave these out")
    if "cell" not in values:
        raise SettingsError(f"{where} {cut(text)}: xh: expected cell= next to it")
    if values["cell"] == "gru":
        raise SettingsError(
            f"{where} {cut(text)}: xh: the candidate of a GRU sees another state than its gates, so no single weight "
            "has all of it"
        )


def _forget(values: dict[str, str], text: str, where: str) -> float | None:
    """What is added to the forget bias; it is taken out of ``values``."""
    if "forget" not in values:
        return None
    given = values.pop("forget")
    if values.get("cell") != "lstm":
        raise SettingsError(f"{where} {cut(text)}: forget is added to the forget gate of an LSTM: expected cell=lstm")
    if "bias_hh" in values:
        raise SettingsError(f"{where} {cut(text)}: forget: add it to bias_hh, or leave bias_hh out")
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SettingsError(f"{where} {cut(text)}: forget: expected a number, got {cut(given)}")
    return number


def _alpha(values: dict[str, str], text: str, where: str) -> float | None:
    """The leak if it is a number, which is taken out of ``values``; what is not a number is the pattern of a tensor."""
    if "alpha" not in values:
        return None
    if not values.get("cell", "").startswith("leaky"):
        raise SettingsError(
            f"{where} {cut(text)}: alpha is the leak of a leaky RNN: expected cell=leaky_tanh or similar"
        )
    try:
        alpha = float(values["alpha"])
    except ValueError:
        return None
    del values["alpha"]
    return checked_alpha(alpha, f"{where} {cut(text)}: alpha")


def _convention(values: dict[str, str], text: str, where: str) -> Convention:
    known: dict[str, Any] = {}
    for key, words in _WORDS.items():
        if key in values:
            if values[key] not in words:
                raise SettingsError(f"{where} {cut(text)}: {key}: expected {', '.join(words)}, got {cut(values[key])}")
            known |= words[values[key]]
    if "order" in values:
        cell = known.get("cell")
        if cell not in ("gru", "lstm") or canonical_order(cell, values["order"]) is None:
            orders = " or ".join(f"{kind} with the letters {CANONICAL[kind]}" for kind in ("gru", "lstm"))
            raise SettingsError(
                f"{where} {cut(text)}: order: expected cell={orders} in the file's order, got {cut(values['order'])}"
            )
        known["order"] = values["order"]
    if "reset" in values and known.get("cell") != "gru":
        raise SettingsError(f"{where} {cut(text)}: reset is a GRU's: expected cell=gru next to it")
    return Convention(**known)


def _compiled(pattern: str, order: str | None) -> Pieces:
    gate = f"(?P<gate>[{order}])"
    return Pieces.of([gate.join(map(re.escape, piece.split(GATE))) for piece in pattern.split("*")])


def _path(groups: Iterable[str], names: dict[str, str]) -> str:
    """What the stars stand for; without stars, what the names begin with."""
    if any(groups):
        return ".".join(part.strip("._/") for part in groups if part)
    start = 0
    hh, ih = (names["xh"], next(iter(names.values()))) if "xh" in names else (names["hh"], names["ih"])
    while start < min(len(hh), len(ih)) and hh[start] == ih[start]:
        start += 1
    return hh[:start].rpartition(".")[0] or hh[:start].strip("._/")


def cut(text: str) -> str:
    """As much of an option, quoted, as helps to find the fault."""
    return repr(shortened(text, SHOWN))
