"""A rule's page, which is its docstring, in parts."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from rnndiag.rules.base import Rule


@dataclass(frozen=True, slots=True)
class Page:
    """What ``rnndiag explain`` prints of a rule."""

    title: str
    """its first sentence"""
    sections: dict[str, str]
    """by heading (What it does, Why is this bad, Formula, Example, What to do, Thresholds, References): a
    paragraph of Markdown, as one line"""


def page(rule: Rule) -> Page:
    """Split a rule's docstring at its headings."""
    text = inspect.getdoc(type(rule)) or ""
    title, *rest = re.split(r"^(\w[\w ]*):\n", text, flags=re.M)
    sections = {heading: _line(body) for heading, body in zip(rest[::2], rest[1::2], strict=True)}
    return Page(_line(title), sections)


def _line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")
