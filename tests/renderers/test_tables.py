"""Tables at every width: whole words and numbers, as columns or as a list."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from rnndiag.renderers.tables import titled_table


def printed(width: int) -> list[str]:
    made = titled_table("Layers")
    made.add_column("layer\ncell, size", overflow="fold")
    made.add_column("log10 gain\n95 %", justify="right", no_wrap=True)
    made.add_column("satu-\nrated", justify="right")
    made.add_column("verdict", no_wrap=True)
    made.add_row(Text.assemble("rnn.l0", "\ntanh 1>64"), "-10.4\n-11.9..-7.41", "<1%", Text("vanishing"))
    made.add_row("rnn.l1", "-", "", "invalid")
    buffer = io.StringIO()
    Console(file=buffer, width=width, highlight=False, markup=False).print(made)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


def test_a_narrow_terminal_gets_a_list() -> None:
    assert printed(24) == [
        "",
        "Layers",
        "layer: rnn.l0",
        "  cell, size: tanh 1>64",
        "  log10 gain: -10.4",
        "  95 %: -11.9..-7.41",
        "  saturated: <1%",
        "  verdict: vanishing",
        "layer cell, size: rnn.l1",
        "  log10 gain 95 %: -",
        "  verdict: invalid",
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 50, 59, 60, 80])
def test_no_number_is_cut(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    for whole in ("-10.4", "-11.9..-7.41", "<1%", "vanishing"):
        assert any(whole in line for line in lines)
