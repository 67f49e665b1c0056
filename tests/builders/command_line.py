"""What a call of the command line leaves: its exit code and its two streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Cli = Callable[..., Done]
"""The fixture ``cli``, which calls the command line in this process."""


def one_line(done: Done) -> str:
    """The only line on stderr, of a call that failed on its input and printed no result."""
    assert done.code == 2
    assert done.out == ""
    assert done.err.endswith("\n")
    (line,) = done.err.splitlines()
    assert line.startswith("rnndiag: error: ")
    return line.removeprefix("rnndiag: error: ")


def lines(text: str) -> list[dict[str, Any]]:
    """The documents of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def bare(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what only fleets add to a report."""
    return {key: value for key, value in line.items() if key not in ("path", "conditions")}
