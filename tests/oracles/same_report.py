"""Whether two reports say the same, but for rounding and the device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rnndiag.renderers import json as as_json
from rnndiag.report import Report


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of a document by its place."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, f"{place}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from numbers(each, f"{place}[{index}]")
    else:
        yield place, value


def assert_same(one: Report, two: Report, *, rel: float) -> None:
    first, second = (dict(numbers(json.loads(as_json.render([replace(each, device="")])))) for each in (one, two))
    assert first.keys() == second.keys()
    for place, value in first.items():
        if isinstance(value, float) and isinstance(second[place], float):
            assert value == pytest.approx(second[place], rel=rel, abs=rel), place
        else:
            assert value == second[place], place
