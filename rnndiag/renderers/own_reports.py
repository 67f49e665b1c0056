"""Whether an existing file is a report that rnndiag wrote, recognized by the first bytes of each format.

A report may be replaced by a new one without ``--force``; any other file may not. Every format has one pattern here,
and ``tests/cli/test_own_reports.py`` checks it against what each command writes.
"""

from __future__ import annotations

import re
from pathlib import Path

HEAD = 16 << 10
"""The number of bytes that are checked. A path of 4,096 characters, with escapes, can come first."""

_STRING = r'"(?:[^"\\\n]|\\.)*"'

_PATTERNS = (
    # json of inspect, check, simulate, sweep, trend and prescribe, and baselines; indented or not
    r'\[?\s*\{\s*(?:"before"\s*:\s*\{\s*)?"schema_version"\s*:\s*"[^"\n]*"\s*,\s*"rnndiag_version"\s*:',
    # json of compare
    rf'\{{\s*"base"\s*:\s*{_STRING}\s*,\s*"new"\s*:\s*{_STRING}\s*,\s*"verdicts"\s*:\s*\[',
    # jsonl: a report, or a path that could not be measured
    rf'\{{"path": {_STRING}, (?:"conditions": "[0-9a-f]+", )?"schema_version": "[^"\n]*", "rnndiag_version":',
    rf'\{{"path": {_STRING}, (?:"conditions": "[0-9a-f]+", )?"error": {_STRING}\}}\n',
    # sarif
    r'\{\s*"\$schema"\s*:\s*"[^"\n]*sarif[^"\n]*"\s*,\s*"version"\s*:\s*"[^"\n]*"\s*,\s*"runs"\s*:\s*\[\s*\{\s*'
    r'"tool"\s*:\s*\{\s*"driver"\s*:\s*\{\s*"name"\s*:\s*"rnndiag"',
    # junit
    r'<\?xml [^>\n]*\?>\s*<testsuites name="rnndiag"[ />]',
    # github
    r"::(?:error|warning|notice) file=[^,\n]*,title=(?:rnndiag%3A |[A-Z]{3}\d{3} )",
    # markdown: of models, and of a run
    r"## .+: \w+\n\n\*\*Summary:\*\* ",
    r"## \d+ checkpoints: \w+ at first, \w+ at last\n\nFrom ",
    # csv: of a run, and of a sweep
    r"path,step,where,kind,verdict(?:,\w+)*\n",
    r"(?:\w+,)+rate,rate_low,rate_high,theory_rate,log10_gain,",
    # table: of models and prescriptions, of check, of a run, of a sweep, of a comparison
    r"model +\S.*\n(?: .*\n)*probe +\w.*\bT=\d+, B=",
    r".+: \w+ at lag \d+; ",
    r"run +\S.*\n(?: .*\n)*order +\d+ checkpoints, ",
    r"[\w.,\s-]{1,300}?\bprobe\s+\w+,\s+B\s+\d+,\s+\d+\s+nets?\s+a\s+point",
    r"(?:\S.*\n){1,50}?where +measure +base +new +change +significant",
)
_BEGINS = tuple(re.compile(pattern) for pattern in _PATTERNS)


def is_own_report(file: Path) -> bool:
    """Whether a regular file begins as a report of one of rnndiag's formats does.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    text = head.decode("utf-8-sig", "replace").replace("\r\n", "\n").lstrip()
    return any(pattern.match(text) for pattern in _BEGINS)
