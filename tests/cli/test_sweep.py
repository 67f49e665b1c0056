"""``rnndiag sweep`` as it is called."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from rnndiag import api
from rnndiag.renderers import sweep_csv, sweep_json, sweep_table
from rnndiag.renderers.heatmap import LETTERS
from rnndiag.sweep.axes import conditions, parse_axis
from rnndiag.sweep.result import Sweep
from tests.builders.command_line import Cli
from tests.builders.processes import END_SECONDS, until

SMALL = ("--hidden", "8", "--T", "10", "--batch", "6", "--nets", "2")
MAP = ("--sigma", "0.5:3:4", "--input-scale", "0.1,1")


def drawn(found: Sweep, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False, emoji=False)
    console.print(sweep_table.render(found))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_json_has_every_point_and_the_critical_sigma(cli: Cli) -> None:
    done = cli("sweep", *SMALL, *MAP, "--format", "json")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert document["axes"] == {"sigma": [0.5, pytest.approx(4 / 3), pytest.approx(13 / 6), 3], "input_scale": [0.1, 1]}
    assert [(p["sigma"], p["input_scale"]) for p in document["points"]][:2] == [(0.5, 0.1), (0.5, 1.0)]
    assert len(document["points"]) == 8
    for point in document["points"]:
        assert point["verdict"] in LETTERS
        assert isinstance(point["rate"], float)
        assert isinstance(point["theory_rate"], float)
        assert [net["seed"] for net in point["nets"]] == [0, 1]
    assert len(document["critical_sigma"]) == 2
    assert document["critical"][1]["theory"] == pytest.approx(1.8556, abs=1e-4)
    assert document["complete"]
    alone = json.loads(cli("sweep", *SMALL, "--sigma", "0.5:3:4", "--format", "json").out)
    assert alone["critical_sigma"] == document["critical_sigma"][1]
    assert json.loads(cli("sweep", *SMALL, "--cell", "tanh,gru", "--format", "json").out)["critical_sigma"] is None


def test_csv_is_the_same_numbers(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sweep.csv"
    done = cli("sweep", *SMALL, *MAP, "--format", "json", "--format", f"csv={file}")
    points = json.loads(done.out)["points"]
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert [float(row["rate"]) for row in rows] == [point["rate"] for point in points]
    assert [row["verdict"] for row in rows] == [point["verdict"] for point in points]
    assert [float(row["input_scale"]) for row in rows] == [0.1, 1.0] * 4
    assert {row["critical_sigma"] for row in rows[::2]} == {str(json.loads(done.out)["critical"][0]["sigma"])}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "axes",
    [
        {"sigma": "0.5:3:26", "input_scale": "0.1:1:10"},
        {"sigma": "0.5:3:26", "input_scale": "0,0.1,1"},
        {"sigma": "0.5,1,1.5,2,3", "bias_scale": "0,1"},
        {"sigma": "0.5:3:26"},
        {"sigma": "0.5:3:6", "cell": "tanh,relu,gru,lstm"},
        {"init": "xavier,he,orthogonal,identity,pytorch", "cell": "tanh,relu,gru,lstm"},
        {"hidden": "2:5:4", "length": "3:6:4"},
        {"sigma": 1.0},
        {"cell": "tanh,gru"},
    ],
    ids=lambda axes: "x".join(axes),
)
def test_the_picture_fits_and_shows_every_point(axes: dict[str, str], width: int) -> None:
    found = api.sweep({"hidden": 3, "length": 4} | axes, nets=1, batch=2)
    lines = drawn(found, width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    names = [name for name, values in found.axes.items() if len(values) > 1]
    if len(names) == 2:
        legend = next(i for i, line in enumerate(lines) if re.match(r"[V·X?M!] [a-z]", line))
        letters = sum(line.count(letter) for line in lines[1:legend] for letter in LETTERS.values())
        assert letters == len(found.points), "\n".join(lines)
    else:
        verdicts = [line.split()[-1] for line in lines if line.split() and line.split()[-1] in LETTERS]
        assert len(verdicts) == len(found.points)


def test_an_axis_wider_than_the_terminal_is_thinned_and_said_so() -> None:
    one = api.sweep({"sigma": 1.0, "hidden": 2, "length": 2}, nets=1, batch=1)
    axes = dict(one.axes) | {"sigma": parse_axis("sigma", "0.5:3:90"), "input_scale": parse_axis("sigma", "0.1:1:90")}
    points = tuple(replace(one.points[0], condition=condition) for condition in conditions(axes))
    found = replace(one, axes=axes, points=points, total=len(points))
    lines = drawn(found, 80)
    assert max(map(len, lines)) <= 80
    assert any("of 2; json and csv have all" in line for line in lines)


def test_theorys_line_lies_where_its_rate_changes_sign() -> None:
    found = api.sweep({"sigma": "0.5:2:4", "input_scale": "0.01,1", "hidden": 4, "length": 4}, nets=1, batch=2)
    # Sigma 0.5, 1, 1.5, 2: theory is critical at 1.04 for the input scale 0.01 and at 1.86 for 1.
    upper, lower = (line for line in drawn(found, 80) if re.match(r" *(1|0\.01) ", line))
    assert [upper.index("│"), lower.index("│")] == [5 + 3 * 9 - 1, 5 + 2 * 9 - 1]
    assert upper[5 + 2 * 9] == "▁"


def test_colour_says_the_rate_and_none_is_left_when_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = api.sweep({"sigma": "0.5:3:4", "input_scale": "0.1,1", "hidden": 4, "length": 4}, nets=1, batch=2)
    for no_color, colours in ((False, True), (True, False)):
        console = Console(
            width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=no_color
        )
        console.print(sweep_table.render(found))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("\x1b[1;30;48;2" in text or "48;2;" in text) is colours
        assert "V vanishing" in text or "· healthy" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sigma", "0:3:4"], "--sigma: expected a number above 0, got 0.0"),
        (["--sigma", "1", "--forget-bias", "3"], "--forget-bias is for --cell lstm, got --cell tanh"),
        (["--sigma", "1e200"], "--sigma: expected a number above 0 and at most 1e+100, got 1e+200"),
        (["--sigma", "-1"], "--sigma: expected a number above 0, got -1.0"),
        (["--T", "0"], "--T: expected at least 1 step, got 0"),
        (["--T", "0,5"], "--T: expected at least 1 step, got 0"),
        (["--sigma", "0.5:3"], "--sigma: expected a number, a list 0,0.1,1 or a range 0.5:3:26"),
        (["--init", "uniform"], "--init: expected one or more of gaussian"),
        (["--init", "orthogonal", "--sigma", "0.5:3:4"], "--sigma scales the gaussian init, but --init is orthogonal"),
        (["--init", "gaussian,he", "--sigma", "2"], "--sigma scales the gaussian init, but --init is he"),
        (["--hidden", "100000"], "--hidden 100000: the weights alone would take 75 GiB"),
        (["--T", "1000000000"], "a net of H=128 on T=1000000000 and B=16 would take about"),
        (["--T", "1:3:3", "--hidden", "4,5", "--cell", "tanh,gru"], "at most 2 axes that vary"),
        (["--lag", "200", "--T", "100"], "--lag 200 is longer than the probe"),
        (["--nets", "0"], "--nets: expected at least 1, got 0"),
        (["--format", "sarif"], "expected one of table, json, csv"),
        (["--probe", "tokens"], "--probe tokens"),
        (["--input-scale", "-1"], "--input-scale: expected a number of at least 0"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, arguments: list[str], words: str) -> None:
    done = cli("sweep", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_sequences_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "own.npy", np.random.default_rng(0).normal(size=(3, 20, 5)))
    arguments = ("sweep", "--probe", tmp_path / "own.npy", "--input-size", "5", "--hidden", "6", "--nets", "1")
    document = json.loads(cli(*arguments, "--T", "10,20", "--format", "json").out)
    assert [point["length"] for point in document["points"]] == [10, 20]
    assert "more than the 20" in cli(*arguments, "--T", "10,30").err


def test_a_resumed_sweep_is_the_same(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    first = cli("sweep", *SMALL, *MAP, "--format", "json", "--resume", file)
    assert cli("sweep", *SMALL, *MAP, "--format", "json", "--resume", file).out == first.out
    refused = cli("sweep", *SMALL, *MAP, "--seed", "3", "--resume", file)
    assert (refused.code, refused.out) == (2, "")
    assert "is of a sweep with seed 0, not 3" in refused.err
    assert "cannot hold both" in cli("sweep", *SMALL, "--resume", file, "--format", f"csv={file}").err


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals of POSIX")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    kept, out = tmp_path / "kept", tmp_path / "part.json"
    arguments = ["sweep", "--sigma", "0.5:3:26", "--input-scale", "0.1:1:10", "--T", "400", "--hidden", "64"]
    command = [sys.executable, "-m", "rnndiag", *arguments, "--resume", str(kept), "--format", f"json={out}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: process.poll() is not None or (kept.exists() and kept.read_bytes().count(b"\n") > 40))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, errors) == (130, f"rnndiag: wrote {out}\nrnndiag: wrote {kept}\n")
    part = json.loads(out.read_text(encoding="utf-8"))
    assert not part["complete"]
    assert 12 <= len(part["points"]) < 260


def test_what_is_partial_says_so() -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    axes = {"sigma": "0.5:3:40", "input_scale": "0.1,1", "hidden": 4, "length": 4}
    part = api.sweep(axes, nets=1, batch=2, workers=1, progress=interrupt)
    assert f"Partial: {len(part.points)} of 80 points." in drawn(part, 80)
    assert json.loads(sweep_json.render(part))["complete"] is False
    assert len(sweep_csv.render(part).splitlines()) == 1 + len(part.points)


def test_a_gain_at_which_states_overflow_bounds_the_critical_one(cli: Cli) -> None:
    arguments = ("--cell", "relu", "--sigma", "1,3", "--T", "2000", "--hidden", "16", "--nets", "1", "--batch", "2")
    found = json.loads(cli("sweep", *arguments, "--format", "json").out)
    assert [point["verdict"] for point in found["points"]] == ["vanishing", "invalid"]
    assert 1 < found["critical_sigma"] < 3


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_memory_that_is_full_is_one_line() -> None:
    command = "sweep --sigma 1 --hidden 64 --T 3000 --batch 512 --nets 1 --workers 1 -q"
    limited = f"ulimit -v 2500000; exec {sys.executable} -m rnndiag {command}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rnndiag: error: --device cpu: out of memory; lower --T, --batch or --exponents\n"


@pytest.mark.parametrize(("cell", "words"), [("tanh", "where J_t = W_hh"), ("gru", "rests at zero; to see")])
def test_the_note_of_nets_at_rest_is_of_their_cell(cli: Cli, cell: str, words: str) -> None:
    arguments = ("--cell", cell, "--probe", "zeros", "--T", "10", "--hidden", "8", "--nets", "1", "--sigma", "1")
    assert words in " ".join(cli("sweep", *arguments).out.split())
