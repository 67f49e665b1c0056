"""Numbers and verdicts in a line of characters, one for each checkpoint or for several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from rnndiag.measures.verdict import Verdict, worst
from rnndiag.renderers.styles import VERDICT_STYLES

BARS = "▁▂▃▄▅▆▇█"
MISSING = "·"
BROKEN = "X"
"""Where numbers are NaN or infinite; the letter of that verdict."""
FLAT = 0.01
"""A range smaller than this share of the largest value is drawn as no change."""

LETTERS: dict[Verdict, str] = {
    "healthy": "H",
    "vanishing": "V",
    "exploding": "E",
    "mixed": "M",
    "inconclusive": "?",
    "invalid": "X",
}
"""Of the verdicts, for those who see no colour."""

NARROWEST = 8

_T = TypeVar("_T")


def sparkline(values: Sequence[float | None], width: int) -> str:
    """At most ``width`` bars from the lowest value to the highest; ``·`` for what is missing and ``X`` for NaN.

    Infinite values are drawn as the highest or lowest bar. With more values than ``width``, a bar is the median of
    several values, and ``X`` if any of them is NaN.
    """
    shares = [[v for v in share if v is not None] for share in _shared(values, width)]
    drawn = [_middle(share) for share in shares]
    finite = [value for value in drawn if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    flat = high - low <= FLAT * max(abs(low), abs(high))
    return "".join(MISSING if value is None else _bar(value, low, high, flat=flat) for value in drawn)


def _middle(share: Sequence[float]) -> float | None:
    """The median; NaN if any value is, None for no values."""
    if any(map(math.isnan, share)):
        return math.nan
    return sorted(share)[len(share) // 2] if share else None


def verdict_strip(verdicts: Sequence[Verdict | None], width: int) -> Text:
    """At most ``width`` letters; of more verdicts than that, a letter is the worst of its share."""
    strip = Text()
    for share in _shared(verdicts, width):
        known = [verdict for verdict in share if verdict is not None]
        if known:
            strip.append(LETTERS[worst(known)], VERDICT_STYLES[worst(known)])
        else:
            strip.append(MISSING, "dim")
    return strip


class Strip:
    """A sparkline or a strip of verdicts, as wide as the cell that asks, to one character a checkpoint."""

    def __init__(self, values: Sequence[float | None] | None = None, verdicts: Sequence[Verdict | None] = ()) -> None:
        self.values, self.verdicts = values, verdicts
        self.count = len(verdicts if values is None else values)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line, never wrapped."""
        width = max(1, options.max_width)
        if self.values is None:
            yield verdict_strip(self.verdicts, width)
        else:
            line = Text(sparkline(self.values, width), style="cyan", no_wrap=True)
            line.highlight_words([BROKEN], VERDICT_STYLES["invalid"])
            yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as there are checkpoints, but a few characters do."""
        widest = min(self.count, options.max_width)
        return Measurement(min(NARROWEST, widest), widest)


def _shared(values: Sequence[_T], width: int) -> list[Sequence[_T]]:
    count = min(width, len(values))
    return [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]


def _bar(value: float, low: float, high: float, *, flat: bool) -> str:
    if math.isnan(value):
        return BROKEN
    if math.isinf(value):
        return BARS[-1] if value > 0 else BARS[0]
    if flat:
        return BARS[len(BARS) // 2 - 1]
    return BARS[min(len(BARS) - 1, int((value - low) / (high - low) * len(BARS)))]
