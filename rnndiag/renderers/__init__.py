"""Renderers: a report in, something to print out. None of them prints, or asks a terminal."""

from __future__ import annotations

TEXT_FORMATS = ("json", "jsonl", "github", "markdown", "junit", "sarif")
"""Each is the module of that name here, with ``render(reports) -> str``: a new format is a file and a name."""
