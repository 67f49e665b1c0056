"""The report: its types, its JSON, and the JSON Schema that comes from the types."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from rnndiag.checkpoint.model import Source
from rnndiag.config.settings import Thresholds
from rnndiag.kinds import KINDS
from rnndiag.measures.gradient import GradientThroughTime
from rnndiag.measures.layer import LayerMeasures
from rnndiag.measures.stack import StackMeasures
from rnndiag.measures.verdict import Verdict
from rnndiag.rules.base import Finding, NotAssessed
from rnndiag.rules.registry import CATALOG
from rnndiag.theory.comparison import Theory

T = TypeVar("T")

SCHEMA_VERSION: Literal["1"] = "1"

_CODES = frozenset(rule.code for rule in CATALOG)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The probe as it was used."""

    kind: str
    length: int
    batch: int
    scale: float
    seed: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything rnndiag found out about one model, as plain frozen data.

    Rates and exponents are in nats per step, gains log10. Arrays by step hold a value for each probe
    step; arrays by lag start at lag 1. Where a curve is longer than 5000 steps it has about a thousand points, and
    ``steps`` or ``lags`` beside it say where; whatever summarises it was taken of all steps.
    """

    schema_version: Literal["1"]
    rnndiag_version: str
    source: Source
    probe: ProbeReport
    measured_in: str
    """dtype of the measurement"""
    device: str
    thresholds: Thresholds
    """the healthy band of the verdict, and what counts as saturated, open or closed"""
    verdict: Verdict
    summary: str
    layers: tuple[LayerMeasures, ...]
    stacks: tuple[StackMeasures, ...]
    findings: tuple[Finding, ...]
    not_assessed: tuple[NotAssessed, ...]
    switched_off: tuple[NotAssessed, ...]
    """rules that selection or configuration kept from a layer or stack"""
    notes: tuple[str, ...]
    """what was assumed or estimated, one sentence each"""
    theory: Theory | None = None
    """what mean field predicts, beside what was measured; None: not a random net"""
    not_applicable: tuple[NotAssessed, ...] = ()
    """rules that are about another kind of layer or stack, such as a rule on forget gates for a tanh layer"""


def to_builtins(report: Report) -> dict[str, Any]:
    """The report as JSON types; numbers that are not finite become ``"nan"``, ``"inf"``, ``"-inf"``."""
    built: dict[str, Any] = finite(msgspec.to_builtins(report))
    return built


def to_json(report: Report) -> bytes:
    """The report in one line."""
    built = to_builtins(report)
    try:
        return msgspec.json.encode(built)
    except UnicodeEncodeError:  # a name that is not UTF-8 stands in lone surrogates, which ASCII can escape
        return json.dumps(built, separators=(",", ":"), allow_nan=False).encode()


def from_json(text: bytes | str) -> Report:
    """A report from its JSON; unknown members are skipped.

    Raises:
        msgspec.MsgspecError: for anything else, including a report that rnndiag would never write, such as a report
            without stacks.
    """
    # Numbers that are not finite are strings in JSON. Only the lax mode converts them back.
    report = decoded(text, Report, strict=False)
    wrong = shape_fault(report)
    if wrong:
        raise msgspec.ValidationError(wrong)
    return report


def decoded(text: bytes | str, type_: type[T], *, strict: bool = True) -> T:
    """A value of a type from its JSON, in which names may hold lone surrogates.

    Raises:
        msgspec.MsgspecError: for anything else.
    """
    try:
        return msgspec.json.decode(text, type=type_, strict=strict)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if "surrogate" not in str(error):
            raise error if isinstance(error, msgspec.DecodeError) else msgspec.DecodeError(str(error)) from error
        tree = _with_surrogates(text)
    return msgspec.convert(tree, type_, strict=strict)


def _with_surrogates(text: bytes | str) -> Any:
    def refuse(constant: str) -> float:
        raise msgspec.DecodeError(f"JSON is malformed: {constant}")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report."""
    schema = msgspec.json.schema(Report)
    numbers = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
    schema = _with_extended_numbers(schema)
    schema["$defs"]["Number"] = numbers
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rnndiag report", **schema}


def schema_text() -> str:
    """The schema as the package ships it."""
    return json.dumps(json_schema(), indent=2) + "\n"


def finite(value: Any) -> Any:
    """A tree of JSON types with numbers that are not finite as strings."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _with_extended_numbers(schema: Any) -> Any:
    """Let every ``number`` also be one of the three strings."""
    if isinstance(schema, dict):
        if schema.get("type") == "number":
            return {**{k: v for k, v in schema.items() if k != "type"}, "$ref": "#/$defs/Number"}
        return {key: _with_extended_numbers(item) for key, item in schema.items()}
    if isinstance(schema, list):
        return [_with_extended_numbers(item) for item in schema]
    return schema


# Facts about every report that rnndiag writes, which the types cannot express. Reports are read from files that anybody
# may have changed, and the code that reads a report relies on these facts.


def shape_fault(report: Report) -> str:
    """The first place where a report is not as rnndiag writes it, and what was expected; empty if all is right."""
    return next(_faults(report), "")


def _faults(report: Report) -> Iterator[str]:
    length = report.probe.length
    if length < 1 or report.probe.batch < 1:
        yield _fault("a probe of at least 1 step and 1 sequence", "$.probe")
    if math.isnan(report.thresholds.vanishing) or math.isnan(report.thresholds.exploding):
        yield _fault("a healthy band of two numbers", "$.thresholds")
    for kind, names in (("stacks", [s.name for s in report.stacks]), ("layers", [la.name for la in report.layers])):
        if not names:
            yield _fault("at least one entry", f"$.{kind}")
        if len(set(names)) < len(names):
            yield _fault("different names", f"$.{kind}")
    for index, stack in enumerate(report.stacks):
        place = f"$.stacks[{index}]"
        if not stack.layers:
            yield _fault("the names of its layers", f"{place}.layers")
        if not 1 <= stack.lag <= length:
            yield _fault(f"a lag from 1 to {length}", f"{place}.lag")
        if stack.gradient is not None:
            yield from _of_gradient(stack.gradient, length, f"{place}.gradient")
    for index, layer in enumerate(report.layers):
        yield from _of_layer(layer, length, f"$.layers[{index}]")
    for index, finding in enumerate(report.findings):
        if finding.rule not in _CODES:
            yield _fault("the code of a rule (rnndiag rules lists them)", f"$.findings[{index}].rule")
    theory = report.theory
    if theory is not None and theory.applies:
        if [layer.layer for layer in theory.layers].count(theory.layer or "") != 1:
            yield _fault("the name of one of its layers", "$.theory.layer")
        if None in (theory.rate, theory.critical_sigma, theory.fixed_point_q):
            yield _fault("numbers where theory applies", "$.theory")


def _of_layer(layer: LayerMeasures, length: int, place: str) -> Iterator[str]:
    if layer.cell not in KINDS:
        yield _fault(f"a kind of cell ({', '.join(KINDS)})", f"{place}.cell")
    if layer.jacobian is not None:
        yield from _of_curve(
            layer.jacobian.norm_per_step, layer.jacobian.steps, length, f"{place}.jacobian.norm_per_step"
        )
    if layer.saturation is not None:
        yield from _of_curve(layer.saturation.per_step, layer.saturation.steps, length, f"{place}.saturation.per_step")
    if layer.gradient is not None:
        yield from _of_gradient(layer.gradient, length, f"{place}.gradient")
    spectrum = layer.lyapunov
    if spectrum is not None:
        count = len(spectrum.exponents)
        if not count:
            yield _fault("at least one exponent", f"{place}.lyapunov.exponents")
        for name, values in (("standard_errors", spectrum.standard_errors), ("spread", spectrum.spread)):
            if len(values) != count:
                yield _fault(f"{count} values, one for each exponent", f"{place}.lyapunov.{name}")
    if layer.recurrent_weight is not None and not layer.recurrent_weight.singular_values:
        yield _fault("at least one singular value", f"{place}.recurrent_weight.singular_values")


def _of_gradient(gradient: GradientThroughTime, length: int, place: str) -> Iterator[str]:
    if not 1 <= gradient.lag <= length:
        yield _fault(f"a lag from 1 to {length}", f"{place}.lag")
    yield from _of_curve(gradient.log10_by_lag, gradient.lags, length, f"{place}.log10_by_lag")


def _of_curve(values: Sequence[float], at: Sequence[int] | None, length: int, place: str) -> Iterator[str]:
    """A curve has one value for each step, or one value for each listed step."""
    if at is None and len(values) != length:
        yield _fault(f"{length} values, one for each step", place)
    if at is not None and (len(values) != len(at) or list(at) != sorted({each for each in at if 1 <= each <= length})):
        yield _fault(f"one value for each listed step or lag, and a rising list from 1 to at most {length}", place)
    if at is not None and not values:
        yield _fault("at least one value", place)


def _fault(expected: str, place: str) -> str:
    return f"Expected {expected} - at `{place}`"


if __name__ == "__main__":
    # Regenerates what `rnndiag schema` prints, after a change of the types.
    Path(__file__).with_name("report.schema.json").write_text(schema_text(), encoding="utf-8")
