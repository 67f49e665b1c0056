"""Which rules apply where, how severe they are, and with which thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from rnndiag.errors import SettingsError
from rnndiag.files.globs import matches
from rnndiag.rules.base import Rule, Severity

FEWEST_OF_A_DRIFT = 2


@dataclass(frozen=True, slots=True)
class Override:
    """What holds for the layers (or stacks) that match a glob, in place of a rule's own defaults."""

    layers: str = "*"
    code: str = ""
    """a code or a family's prefix; empty: every rule"""
    severity: Severity | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    off: bool = False

    def __post_init__(self) -> None:
        """Look at the thresholds.

        Raises:
            SettingsError: for one that no rule could go by.
        """
        for name, value in self.thresholds.items():
            wrong = misfit(name, value)
            if wrong:
                raise SettingsError(f"the threshold {name} of {self.code or 'every rule'}: {wrong}")


@dataclass(frozen=True, slots=True)
class Policy:
    """Selection by code prefix, then overrides, of which later ones win."""

    select: tuple[str, ...] = ()
    """prefixes of the codes to apply; none: all"""
    ignore: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()

    def wants(self, rule: Rule, layer: str) -> bool:
        """Whether a rule applies to a layer or stack of that name."""
        selected = not self.select or rule.code.startswith(self.select)
        ignored = bool(self.ignore) and rule.code.startswith(self.ignore)
        return selected and not ignored and not any(o.off for o in self._for(rule, layer))

    def severity(self, rule: Rule, layer: str) -> Severity:
        """The severity of a rule's findings on a layer or stack."""
        chosen = [o.severity for o in self._for(rule, layer) if o.severity is not None]
        return chosen[-1] if chosen else rule.severity

    def thresholds(self, rule: Rule, layer: str) -> Mapping[str, float]:
        """The rule's thresholds for a layer or stack, by name."""
        merged = dict(rule.thresholds)
        for override in self._for(rule, layer):
            merged |= override.thresholds
        return merged

    def _for(self, rule: Rule, layer: str) -> list[Override]:
        return [o for o in self.overrides if rule.code.startswith(o.code) and matches(layer, o.layers)]


def misfit(name: str, value: float) -> str:
    """What is wrong with a rule's threshold of some name; empty if nothing is."""
    if math.isnan(value):
        return "expected a number, got nan"
    if name == "p_value" and not 0 < value <= 1:
        return f"expected a probability above 0 and up to 1, got {value:g}"
    if name == "checkpoints" and not (value >= FEWEST_OF_A_DRIFT and float(value).is_integer()):
        return f"expected a whole number from {FEWEST_OF_A_DRIFT} on, got {value:g}"
    if name == "ahead" and not 0 <= value < math.inf:
        return f"expected a finite number from 0 on, got {value:g}"
    return ""


def check_codes(codes: Iterable[str], rules: Iterable[Rule], where: str) -> tuple[str, ...]:
    """The codes and prefixes as given, if each begins the code of some rule.

    Raises:
        SettingsError: naming the nearest code.
    """
    known = [rule.code for rule in rules]
    given = tuple(code.strip().upper() for code in codes)
    for code in given:
        if not code or not any(each.startswith(code) for each in known):
            near = get_close_matches(code, [*known, *(each[:3] for each in known)], 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else "; rnndiag rules lists them"
            raise SettingsError(f"{where}: no rule begins with {code!r}{hint}")
    return given
