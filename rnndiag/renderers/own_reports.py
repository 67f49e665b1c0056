"""Whether an existing file is a report that rnndiag wrote, recognized by the first bytes of each format.

A report may be replaced by a new one without ``--force``; any other file may not. The patterns of text formats are in
the registry, those of tables are here, and ``tests/cli/test_own_reports.py`` checks them against what each command
writes.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from rnndiag.renderers.registry import COMPARISON, PRESCRIPTION, REPORTS, SWEEP, TREND

HEAD = 16 << 10
"""The number of bytes that are checked. A path of 4,096 characters, with escapes, can come first."""

_TABLES = (
    # of models and prescriptions, of check, of a run, of a sweep, of a comparison
    r"model +\S.*\n(?: .*\n)*probe +\w.*\bT=\d+, B=",
    r".+: \w+ at lag \d+; ",
    r"run +\S.*\n(?: .*\n)*order +\d+ checkpoints, ",
    r"[\w.,\s-]{1,300}?\bprobe\s+\w+,\s+B\s+\d+,\s+\d+\s+nets?\s+a\s+point",
    r"(?:\S.*\n){1,50}?where +measure +base +new +change +significant",
)


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """The beginnings of all formats of all results."""
    results = (REPORTS, COMPARISON, PRESCRIPTION, SWEEP, TREND)
    formats = [each for formats in results for each in formats.values()]
    begins = dict.fromkeys(pattern for each in formats for pattern in each.begins)
    return tuple(re.compile(pattern) for pattern in (*begins, *_TABLES))


def is_own_report(file: Path) -> bool:
    """Whether a regular file begins as a report of one of rnndiag's formats does.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    text = head.decode("utf-8-sig", "replace").replace("\r\n", "\n").lstrip()
    return any(pattern.match(text) for pattern in _patterns())
