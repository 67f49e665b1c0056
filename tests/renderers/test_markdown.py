"""Markdown, read by a parser of CommonMark with GitHub's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from rnndiag.printable import escaped
from rnndiag.renderers import markdown
from tests.builders.reports import HOSTILE, broken, golden, healthy, hostile, vanishing, without_memory

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

BLOCKS = {
    "heading", "paragraph", "inline", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item",
}  # fmt: skip


def text_of(inline: Token) -> str:
    """What a reader sees."""
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def inlines(tokens: list[Token], within: str) -> Iterator[Token]:
    for opening, token in pairwise(tokens):
        if opening.type == f"{within}_open" and token.type == "inline":
            yield token


def test_a_section_for_each_model() -> None:
    reports = [vanishing(), broken(), healthy(), without_memory()]
    tokens = READER.parse(markdown.render(reports))
    headings = [text_of(token) for token in inlines(tokens, "heading")]
    assert [h for h in headings if ": " in h] == [f"{r.source.path}: {r.verdict}" for r in reports]
    assert headings.count("Not assessed") == 1
    rows = [token for token in tokens if token.type == "tr_open"]
    assert len(rows) == sum(1 + len(report.layers) for report in reports)
    cells = [text_of(token) for token in inlines(tokens, "td")]
    assert len(cells) == len(markdown.COLUMNS) * sum(len(report.layers) for report in reports)
    assert cells[0] == "rnn.l0"
    seen = " ".join(text_of(token) for token in tokens if token.type == "inline")
    for report in reports:
        assert report.summary in seen
        for finding in report.findings:
            assert f"{finding.severity} {finding.rule} {finding.name} in {finding.layer}: {finding.message}" in seen
            for suggestion in finding.suggestions:
                assert f"try: {suggestion.action} because {suggestion.evidence}" in seen
        for item in report.not_assessed:
            assert f"in {item.layer}: {item.reason}" in seen
            assert item.rule in seen


def test_numbers_that_are_missing_or_not_finite() -> None:
    assert "-inf (-inf..-inf)" in markdown.render([without_memory()])
    assert "| `rnn.l0` | gru 3→4 | - | - | - | - | - | - | invalid |" in markdown.render([broken()])


def test_no_reports() -> None:
    assert markdown.render([]) == ""


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_means_itself_and_nothing_else(name: str, sound: bool) -> None:
    report = hostile(name, sound)
    text = markdown.render([report])
    text.encode("utf-8")
    assert text.endswith("\n")
    tokens = READER.parse(text)
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} <= BLOCKS
    assert sum(token.type == "td_open" for token in tokens) == len(markdown.COLUMNS)
    for child in (child for token in tokens for child in token.children or ()):
        assert child.type in ("text", "code_inline", "html_inline", "strong_open", "strong_close", "softbreak")
        assert child.type != "html_inline" or child.content in ("<code>", "</code>", "<!-- -->")
    assert squeezed(text_of(next(inlines(tokens, "heading")))) == squeezed(f"{escaped(name)}: {report.verdict}")
    assert squeezed(text_of(next(inlines(tokens, "td")))) == squeezed(escaped(report.layers[0].name))
    found = [text_of(token) for token in tokens if token.type == "inline" and "error" in text_of(token)]
    assert any(squeezed(each).endswith(squeezed(f": {escaped(name)}")) for each in found)


def squeezed(text: str) -> str:
    """HTML shows a run of spaces as one."""
    return " ".join(text.split())


def test_nothing_is_left_for_github_to_link() -> None:
    text = markdown.prose("@someone #12 https://example.org www.example.org $x$")
    for trap in ("@s", "#1", "://", "www.", "$"):
        assert trap not in text


def test_golden(agrees: Callable[[str, str], None]) -> None:
    agrees(markdown.render(golden()), "markdown.md")
