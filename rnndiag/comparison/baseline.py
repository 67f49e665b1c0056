"""Reports kept from an earlier run, and what of a new one is new or worse beside them."""

from __future__ import annotations

import codecs
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rnndiag.errors import BaselineError
from rnndiag.files.side_files import MAX_REPORTS_BYTES, deep_position, open_regular, position, read_bytes
from rnndiag.printable import shortened
from rnndiag.report import SCHEMA_VERSION, Report, decoded, from_json
from rnndiag.rules.base import SEVERITIES, Finding
from rnndiag.rules.registry import REPORT_RULES

MAX_DEPTH = 100
"""A report has far fewer levels of nesting than this. Text with more levels is reported with its position."""

NOISE = 0.1
"""Relative change of a quantity without an interval of its own that counts as none."""

ERRORS = 3.0
"""Standard errors of a difference that count as none."""

_GROWS_WORSE = {rule.code: rule.grows_worse for rule in REPORT_RULES if rule.grows_worse}


@dataclass(frozen=True, slots=True)
class Difference:
    """The findings of a new report beside those of an old one."""

    worse: tuple[Finding, ...]
    """new, or worse beyond the noise of the measurement"""
    known: tuple[Finding, ...]
    """there before, and no worse"""
    fixed: tuple[Finding, ...]
    """there before, and gone"""


class _Versioned(msgspec.Struct):
    schema_version: Any = None


def read_reports(path: Path) -> tuple[Report, ...]:
    """The report or reports that ``--format json`` or ``--write-baseline`` wrote.

    Raises:
        BaselineError: for any other file, and for reports of another schema version.
    """
    if not os.path.lexists(path):
        raise BaselineError(f"{path}: no such file; create it with --write-baseline")
    text = read_bytes(path, MAX_REPORTS_BYTES, BaselineError).removeprefix(codecs.BOM_UTF8)
    several = text.lstrip()[:1] == b"["
    try:
        listed = _items(text) if several else [text]
    except msgspec.MsgspecError as error:
        raise _no_report(path, text, error) from error
    return tuple(_report(path, each, f": report {n}" if several else "") for n, each in enumerate(listed, 1))


def _items(text: bytes) -> list[bytes]:
    try:
        return [bytes(each) for each in decoded(text, list[msgspec.Raw])]
    except msgspec.ValidationError:  # names that are not UTF-8: msgspec gives no raw text of them
        return [json.dumps(each).encode() for each in decoded(text, list[Any])]


def _report(path: Path, text: bytes, which: str) -> Report:
    try:
        version = decoded(text, _Versioned).schema_version
    except msgspec.ValidationError:  # not an object
        version = None
    except msgspec.MsgspecError as error:
        raise _no_report(path, text, error, which) from error
    if version != SCHEMA_VERSION:
        raise BaselineError(
            f"{path}{which}: expected reports of schema_version {SCHEMA_VERSION!r}, "
            f"got {shortened(repr(version), 60)}; write it again"
        )
    try:
        return from_json(text)
    except msgspec.MsgspecError as error:
        raise BaselineError(
            f"{path}{which}: not a report of this version of rnndiag: {error}; write it again"
        ) from error


def _no_report(path: Path, text: bytes, error: Exception, which: str = "") -> BaselineError:
    """The error for text that is not JSON, with a line and a column instead of msgspec's byte offset."""
    byte = re.search(r" \(byte (\d+)\)", str(error))
    if byte is None:
        where = "line 1, column 1" if not text.strip() else position(text.decode("utf-8", "replace"), len(text))
        where = deep_position(text.decode("utf-8", "replace"), MAX_DEPTH) if "nested" in str(error) else where
    else:
        before = text[: int(byte[1])].decode("utf-8", "replace")
        where = position(before, len(before))
    reason = str(error).replace(byte[0], "") if byte else str(error)
    return BaselineError(
        f"{path}{which}: expected a report written by --format json, but the text is not JSON at {where}: "
        f"{reason}; write the report again"
    )


def is_report(path: Path) -> bool:
    """Whether a regular file begins like JSON, which no checkpoint does."""
    try:
        with open_regular(path, BaselineError) as file:
            return file.read(64).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")
    except BaselineError:
        return False


def match(report: Report, old: Sequence[Report], where: str) -> Report:
    """The old report of the same model: that of the same path, or the only one there is.

    Raises:
        BaselineError: where there is none, its layers are others, or it was measured otherwise.
    """
    same_path = [each for each in old if each.source.path == report.source.path]
    candidates = same_path or (list(old) if len(old) == 1 else [])
    if not candidates:
        raise BaselineError(f"{where}: holds no report of {report.source.path}; write it anew")
    base = candidates[0]
    if _shape(base) != _shape(report):
        raise BaselineError(
            f"{where}: expected a report of the same model, got other layers: {_shape(base)} against {_shape(report)}"
        )
    if _conditions(base) != _conditions(report):
        raise BaselineError(
            f"{where}: measured with {_conditions(base)}, this run with {_conditions(report)}; use the same options"
        )
    return base


def difference(base: Report, new: Report) -> Difference:
    """Sort the findings of two reports of the same model, measured alike."""
    before = {(finding.rule, finding.layer): finding for finding in base.findings}
    worse: list[Finding] = []
    known: list[Finding] = []
    for finding in new.findings:
        old = before.pop((finding.rule, finding.layer), None)
        (worse if old is None or _is_worse(old, finding, base, new) else known).append(finding)
    return Difference(tuple(worse), tuple(known), tuple(before.values()))


def _is_worse(old: Finding, new: Finding, base: Report, report: Report) -> bool:
    if SEVERITIES.index(new.severity) < SEVERITIES.index(old.severity):
        return True
    if new.rule in ("VAN001", "EXP001"):
        intervals = [
            stack.gradient.log10_gain_interval
            for each in (base, report)
            for stack in each.stacks
            if stack.name == new.layer and stack.gradient is not None
        ]
        if len(intervals) != 2:
            return True
        (old_low, old_high), (new_low, new_high) = intervals
        return new_high < old_low if new.rule == "VAN001" else new_low > old_high
    key = _GROWS_WORSE.get(new.rule)
    was, now = (f.evidence.get(key) if key else None for f in (old, new))
    if not isinstance(was, int | float) or not isinstance(now, int | float):
        return False
    errors = [f.evidence.get("standard_error") for f in (old, new)]
    if all(isinstance(error, int | float) for error in errors):
        return now - was > ERRORS * math.hypot(*(float(error or 0) for error in errors))
    return now > was + NOISE * abs(was)


def _shape(report: Report) -> str:
    layers = ", ".join(f"{la.name} {la.cell} {la.input_size}>{la.hidden_size}" for la in report.layers)
    stacks = "; ".join(f"{stack.name}: {', '.join(stack.layers)}" for stack in report.stacks)
    return f"{layers} (stacks {stacks})"


def _conditions(report: Report) -> str:
    probe = report.probe
    return (
        f"probe {probe.kind}, T={probe.length}, B={probe.batch}, scale {probe.scale:g}, seed {probe.seed}, "
        f"lag {report.stacks[0].lag}, healthy band {report.thresholds.vanishing:g} to {report.thresholds.exploding:g}"
    )
