"""SARIF 2.1.0, for code scanning and other readers of static analysis.

Source of the format: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, errata 01.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rnndiag.checkpoint.model import Skipped
from rnndiag.printable import escaped, json_text
from rnndiag.renderers.cases import explained, unjudged
from rnndiag.report import Report, to_builtins
from rnndiag.rules.base import Finding, NotAssessed, Rule
from rnndiag.rules.registry import REPORT_RULES
from rnndiag.version import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LEVELS = {"error": "error", "warning": "warning", "info": "note"}

Json = dict[str, Any]


def render(reports: Sequence[Report]) -> str:
    """One run over all the models.

    The notifications of the run list the rules that could not be assessed, the layers and files that were not measured,
    and the assumptions.
    """
    artifacts: list[Json] = []
    results: list[Json] = []
    notifications: list[Json] = []
    for report in reports:
        artifact = _artifact(report)
        if artifact not in artifacts:  # the format wants them unique
            artifacts.append(artifact)
        where = {"uri": artifact["location"]["uri"], "index": artifacts.index(artifact)}
        # The report's own JSON spells out the numbers that JSON has no name for.
        built = to_builtins(report)["findings"]
        results += [_result(f, b["evidence"], report, where) for f, b in zip(report.findings, built, strict=True)]
        notifications += [_notification(item, where) for item in report.not_assessed]
        notifications += [_unjudged(skipped, where) for skipped in unjudged(report)]
        notifications += [_note(note, where) for note in report.notes]
    versions = dict.fromkeys(report.rnndiag_version for report in reports) or [__version__]
    driver = {"name": "rnndiag", "version": ", ".join(versions), "rules": [_descriptor(rule) for rule in REPORT_RULES]}
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notifications}],
        "artifacts": artifacts,
        "results": results,
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_text(document) + "\n"


def _descriptor(rule: Rule) -> Json:
    page = inspect.getdoc(type(rule)) or rule.name
    title, *sections = re.split(r"\n\n(?=\S)", page)
    description = sections[0].partition("\n")[2] if sections else title
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": _joined(title)},
        "fullDescription": {"text": _joined(description)},
        "help": {"text": page, "markdown": _markdown(title, sections)},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _markdown(title: str, sections: Sequence[str]) -> str:
    """The page with its sections' titles in bold and its code in single backticks."""
    blocks = [_inline(title)]
    for section in sections:
        heading, _, body = section.partition("\n")
        paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(body))
        blocks += [f"**{heading.rstrip(':')}**", *map(_inline, paragraphs)]
    return "\n\n".join(blocks)


def _inline(paragraph: str) -> str:
    # Outside code, Markdown would take |, <, * and _ for its own.
    parts = re.split(r"(``.*?``)", _joined(paragraph))
    return "".join(part[1:-1] if part.startswith("``") else re.sub(r"([\\<|_*])", r"\\\1", part) for part in parts)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _artifact(report: Report) -> Json:
    source = report.source
    artifact: Json = {"location": {"uri": uri(source.path)}, "roles": ["analysisTarget"]}
    if source.sha256:
        artifact["hashes"] = {"sha-256": source.sha256}
    artifact["properties"] = {"verdict": report.verdict, "summary": escaped(report.summary)}
    return artifact


def _result(finding: Finding, evidence: Mapping[str, Any], report: Report, where: Json) -> Json:
    file = re.split(r"[/\\]", report.source.path)[-1]
    identity = "\0".join((finding.rule, finding.layer, file)).encode("utf-8", "backslashreplace")
    return {
        **_rule(finding.rule, "ruleId", "ruleIndex"),
        "level": LEVELS[finding.severity],
        "message": {"text": _message("\n".join(explained(finding)))},
        "locations": [_location(finding.layer, where)],
        "partialFingerprints": {"ruleLayerFile/v1": hashlib.sha256(identity).hexdigest()},
        "properties": {"evidence": {escaped(name): _spelled(value) for name, value in evidence.items()}},
    }


def _spelled(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) else value


def _notification(item: NotAssessed, where: Json) -> Json:
    text = f"{item.rule} could not be assessed on {item.layer}: {item.reason}"
    rule = {"associatedRule": _rule(item.rule, "id", "index")}
    return _notified("warning", text, _location(item.layer, where)) | rule


def _unjudged(skipped: Skipped, where: Json) -> Json:
    text = f"{skipped.name} was not measured: {skipped.reason}"
    return _notified("warning", text, _location(skipped.name, where))


def _note(note: str, where: Json) -> Json:
    return _notified("note", note, {"physicalLocation": {"artifactLocation": where}})


def _notified(level: str, text: str, location: Json) -> Json:
    return {"level": level, "message": {"text": _message(escaped(text))}, "locations": [location]}


def _rule(code: str, named: str, indexed: str) -> Json:
    """A reference to a rule, with its place in the catalogue if it has one."""
    codes = [rule.code for rule in REPORT_RULES]
    return {named: code, indexed: codes.index(code)} if code in codes else {named: code}


def _location(layer: str, where: Json) -> Json:
    # GitHub shows no result without a region; a checkpoint has bytes, and no lines.
    physical = {"artifactLocation": where, "region": {"byteOffset": 0}}
    if not layer:
        return {"physicalLocation": physical}
    name = escaped(layer)
    logical = {"name": name.rpartition(".")[2] or name, "fullyQualifiedName": name, "kind": "module"}
    return {"physicalLocation": physical, "logicalLocations": [logical]}


def uri(path: str) -> str:
    """A URI reference for a path: relative as it is, absolute as ``file:``, an address as itself.

    Bytes that are no UTF-8 (surrogates, in Python's spelling of a path) are percent-encoded as bytes.
    """
    # Other surrogates stand for no byte: no system has such a path.
    path = re.sub("[\ud800-\udc7f\udd00-\udfff]", lambda found: escaped(found[0]), path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        # What is encoded already stays so; a % that encodes nothing does not.
        return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", quote(path, safe="%/:?@!$&'()*+,;=~", errors="surrogateescape"))
    file = Path(path)
    return file.as_uri() if file.is_absolute() else quote(os.fsencode(file.as_posix()))


def _message(text: str) -> str:
    """The text in a message string (sections 3.11.5 and 3.11.6): no placeholder, no link."""
    return re.sub(r"\](?=\()", r"\\]", text.replace("{", "{{").replace("}", "}}"))
