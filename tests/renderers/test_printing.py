"""Every renderer, at several widths, of reports in which every name and text may have been made to do harm."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.cli.streams import plain_table
from rnndiag.comparison.baseline import Difference
from rnndiag.comparison.compare import Comparison, compare
from rnndiag.fleet.job import Failure
from rnndiag.fleet.lines import line
from rnndiag.prescription import Prescription, prescribe
from rnndiag.printable import escaped
from rnndiag.renderers import (
    comparison_table,
    github,
    jsonl,
    junit,
    lines,
    markdown,
    prescription_table,
    sarif,
    table,
    trend_table,
)
from rnndiag.renderers import json as json_renderer
from rnndiag.renderers.registry import COMPARISON, PRESCRIPTION, REPORTS, TREND
from rnndiag.report import Report
from rnndiag.trend import Trend
from rnndiag.trend import trend as trend_of
from tests.builders.hostile_text import EXAMPLES, FORMULA_STARTS, TEXTS, assert_safe, is_number, with_text
from tests.builders.reports import SHORT, hostile
from tests.oracles.nets import layer

MARKER = "MARKER"
WIDTHS = st.sampled_from([20, 21, 33, 47, 80, 100, 300])
TEXT = {"github": github, "json": json_renderer, "jsonl": jsonl, "junit": junit, "markdown": markdown, "sarif": sarif}


@cache
def report(sound: bool = True) -> Report:
    """A report that names the marker wherever a name or a text stands."""
    return hostile(MARKER, sound)


def of(name: str, sound: bool = True) -> Report:
    return with_text(report(sound), MARKER, name)


@cache
def run() -> Trend:
    return trend_of([report(), report(), report()], order="given")


@cache
def compared() -> Comparison:
    """A comparison in which each finding is both worse and fixed."""
    result = compare(report(), report())
    known = result.findings.known
    assert known
    return replace(result, findings=Difference(known, (), known))


@cache
def prescribed() -> Prescription:
    net = layer("tanh", 3, 4, scale=0.2, name=MARKER)
    return prescribe(Model(Source(MARKER, "torch"), (Stack(MARKER, ((net,),)),)), SHORT).prescription


def test_every_text_format_is_tested() -> None:
    assert set(TEXT) == set(REPORTS)


@given(TEXTS, WIDTHS, st.booleans())
@settings(deadline=None)
def test_tables_and_lines(name: str, width: int, sound: bool) -> None:
    shown = [of(name, sound)]
    for renderable in (table.render(shown, verbose=True), table.render(shown), lines.render(shown, known=1)):
        assert_safe(plain_table(renderable, width))


@given(TEXTS, WIDTHS)
@settings(deadline=None)
def test_trends_comparisons_and_prescriptions(name: str, width: int) -> None:
    for renderable in (
        trend_table.render(with_text(run(), MARKER, name)),
        comparison_table.render(with_text(compared(), MARKER, name)),
        prescription_table.render(with_text(prescribed(), MARKER, name), verbose=True),
    ):
        assert_safe(plain_table(renderable, width))


@pytest.mark.parametrize("name", EXAMPLES, ids=ascii)
def test_a_name_is_still_told(name: str) -> None:
    shown = plain_table(lines.render([of(name)]), 1000)
    assert escaped(name).lstrip()[1:] in shown.replace("\\x23", "#")


@given(TEXTS, st.booleans())
@settings(deadline=None)
def test_formats_for_machines(name: str, sound: bool) -> None:
    shown = [of(name, sound)] * 2
    for format_, renderer in TEXT.items():
        text = renderer.render(shown)
        assert_safe(text, keep="\n\t" if format_ in ("junit", "github") else "\n", commands=format_ == "github")
        if format_ == "github":
            assert all(each.startswith("::") for each in text.splitlines())
        elif format_ == "json":
            assert [each["source"]["path"] for each in json.loads(text)] == [name, name]
        elif format_ == "jsonl":
            assert [json.loads(each)["path"] for each in text.splitlines()] == [name, name]
        elif format_ == "junit":
            suite = ElementTree.fromstring(text)[0]
            assert suite.attrib["name"] == escaped(name)
            assert all(case.attrib["classname"].startswith(escaped(name)) for case in suite.iter("testcase"))
        elif format_ == "sarif":
            json.loads(text)


@given(TEXTS)
@settings(deadline=None)
def test_other_documents(name: str) -> None:
    documents: list[tuple[str, Any]] = [
        (TREND["json"].render(with_text(run(), MARKER, name)), lambda document: document["points"][0]["path"]),
        (COMPARISON["json"].render(with_text(compared(), MARKER, name)), lambda document: document["base"]),
        (
            PRESCRIPTION["json"].render(with_text(prescribed(), MARKER, name)),
            lambda document: document["before"]["source"]["path"],
        ),
        (line(name, Failure(name, 2)), lambda document: document["error"]),
    ]
    for text, path in documents:
        assert_safe(text)
        assert path(json.loads(text)) == name
    assert_safe(TREND["markdown"].render(with_text(run(), MARKER, name)))


@given(TEXTS)
@settings(deadline=None)
def test_no_cell_of_a_trend_is_a_formula(name: str) -> None:
    text = TREND["csv"].render(with_text(run(), MARKER, name))
    assert_safe(text)
    head, *rows = csv.reader(text.splitlines())
    assert len(rows) == 6  # three checkpoints, each with a stack and a layer
    for row in rows:
        assert len(row) == len(head)
        assert not [cell for cell in row if cell.startswith(FORMULA_STARTS) and not is_number(cell)]
