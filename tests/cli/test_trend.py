"""``rnndiag trend`` on files: streams, formats, exit codes."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from rich.console import Console

from rnndiag.renderers import trend_table as table
from rnndiag.renderers.sparkline import BARS, sparkline, verdict_strip
from rnndiag.trend import trend
from tests.builders.command_line import Cli
from tests.builders.training_runs import RISING, report

GOLDEN = Path(__file__).parents[1] / "golden"
SHORT = ("--T", "30", "--batch", "6", "--exponents", "1", "--probe", "zeros")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Checkpoints of a tanh net at rest, whose gain over 30 steps is 10^-1, 10^-0.6, ... 10^2.6."""
    torch.manual_seed(0)
    weight = torch.linalg.qr(torch.randn(8, 8))[0]
    folder = tmp_path / "run"
    folder.mkdir()
    for i in range(10):
        scale = 10 ** ((-1 + 0.4 * i) / 30)
        state = {"rnn.weight_ih_l0": torch.zeros(8, 2), "rnn.weight_hh_l0": weight * scale}
        settings = {"nonlinearity": "tanh"}  # with ReLU no unit of a net at rest responds
        content = {"state_dict": state, "global_step": 1000 * (i + 1), "hyper_parameters": settings}
        torch.save(content, folder / f"{9 - i}.ckpt")
    return folder


def test_the_table(cli: Cli, run: Path) -> None:
    done = cli("trend", run, *SHORT)
    assert (done.code, done.err) == (0, "")
    assert "10 checkpoints, global_step 1000 to 10000: by global_step" in " ".join(done.out.split())
    assert "verdict  HHHHHHHHHH" in done.out
    assert BARS[0] in done.out
    assert "warning TRD001 drifts-toward-chaos in rnn" in done.out
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_holds_everything(cli: Cli, run: Path) -> None:
    data = json.loads(cli("trend", run, *SHORT, "--format", "json").out)
    assert data["order"]["by"] == "step"
    assert [point["step"] for point in data["points"]] == [1000.0 * (i + 1) for i in range(10)]
    assert Path(data["points"][0]["path"]).name == "9.ckpt"
    for i, point in enumerate(data["points"]):
        assert point["stacks"][0]["measures"]["log10_gain"] == pytest.approx(-1 + 0.4 * i, abs=1e-5)
        assert {"spectral_norm", "saturation", "exponent", "entry_scale"} <= set(point["layers"][0]["measures"])
    assert data["changes"] == []
    (finding,) = data["findings"]
    assert finding["evidence"]["crosses_at"] == pytest.approx(11_000, rel=1e-3)
    assert data["alarms"][0]["rule"] == "TRD001"


def test_csv_has_a_row_for_each_place_and_checkpoint(cli: Cli, run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("trend", run, *SHORT, "--format", "csv").out)))
    assert [(row["step"], row["where"]) for row in rows[:3]] == [
        ("1000.0", "rnn"),
        ("1000.0", "rnn.l0"),
        ("2000.0", "rnn"),
    ]
    assert len(rows) == 20
    assert [float(row["log10_gain"]) for row in rows[::2]] == pytest.approx([-1 + 0.4 * i for i in range(10)], abs=1e-5)


def test_markdown_is_markdown(cli: Cli, run: Path) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(cli("trend", run, *SHORT, "--format", "markdown").out)
    kinds = {token.type for token in tokens}
    assert {"heading_open", "table_open", "bullet_list_open"} <= kinds
    rows = sum(token.type == "tr_open" for token in tokens)
    assert sum(token.type in ("td_open", "th_open") for token in tokens) == 5 * rows


def test_several_formats_at_once(cli: Cli, run: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("table", "json", "csv", "markdown")}
    formats = [word for name, file in files.items() for word in ("--format", f"{name}={file}")]
    done = cli("trend", run, *SHORT, *formats)
    assert (done.code, done.err) == (0, "".join(f"rnndiag: wrote {file}\n" for file in files.values()))
    assert done.out.splitlines()[-1].startswith("Measured 10 checkpoints: ")
    for file in files.values():
        assert "log10" in file.read_text(encoding="utf-8")
    done = cli("trend", run, "--format", "junit")
    assert (done.code, "expected one of table, json, csv, markdown" in done.err) == (2, True)


@pytest.mark.parametrize(("fail_on", "code"), [("never", 0), ("error", 0), ("warning", 1), ("info", 1)])
def test_fail_on(cli: Cli, run: Path, fail_on: str, code: int) -> None:
    assert cli("trend", run, *SHORT, "--fail-on", fail_on).code == code


def test_an_unreadable_file_is_told_and_the_rest_measured(cli: Cli, run: Path) -> None:
    (run / "5.ckpt").write_bytes(b"nonsense")
    done = cli("trend", run, *SHORT, "--format", "json")
    assert done.code == 2
    assert "5.ckpt: " in done.err
    assert len(done.err.splitlines()) == 1
    assert len(json.loads(done.out)["points"]) == 9


def test_one_checkpoint_is_no_run(cli: Cli, run: Path) -> None:
    done = cli("trend", run / "3.ckpt", *SHORT)
    assert (done.code, done.out) == (2, "")
    assert "a trend needs at least 2 checkpoints of one run, got 1" in done.err
    assert len(done.err.splitlines()) == 1
    done = cli("trend", run / "3.ckpt", run / "missing.ckpt", *SHORT)
    assert (done.code, done.out) == (2, "")
    assert "missing.ckpt: no such file" in done.err
    assert "needs at least 2" in done.err


def test_an_order_that_cannot_be_told(cli: Cli, run: Path) -> None:
    torch.save(torch.load(run / "3.ckpt")["state_dict"], run / "best.ckpt")
    done = cli("trend", run, *SHORT, "--order", "step")
    assert (done.code, done.out) == (2, "")
    assert "best.ckpt holds no step; try another --order" in " ".join(done.err.split())
    data = json.loads(cli("trend", run, *SHORT, "--format", "json").out)
    assert data["order"]["by"] == "time"
    assert "best.ckpt holds no number in the name" in data["order"]["reason"]


def test_an_output_is_no_input(cli: Cli, run: Path) -> None:
    done = cli("trend", run / "1.ckpt", run / "2.ckpt", "--output", run / "2.ckpt")
    assert done.code == 2
    assert "is one of the inputs" in done.err


def test_trend_rules_are_no_rules_of_check(cli: Cli, run: Path) -> None:
    assert "rnndiag trend applies them" in " ".join(cli("check", run / "1.ckpt", "--select", "TRD").err.split())


@pytest.mark.parametrize("width", [80, 120])
def test_golden_table(width: int, request: pytest.FixtureRequest) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=width, highlight=False).print(table.render(trend(RISING)))
    text = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
    path = GOLDEN / f"trend_{width}.txt"
    if request.config.getoption("--regenerate"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "pytest --regenerate rewrites it, if the change is meant"
    assert max(map(len, text.splitlines())) <= width


def test_many_checkpoints_fit_into_80_columns() -> None:
    stream = random.Random(0)
    many = [report(10 ** (stream.gauss(0, 1) / 40), f"a.rather.long/path/epoch={i}.ckpt", epoch=i) for i in range(90)]
    buffer = io.StringIO()
    Console(file=buffer, width=80, highlight=False).print(table.render(trend(many)))
    lines = buffer.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = (line for line in lines if line.startswith("  spectral radius"))
    assert sum(character in BARS for character in line) >= 20
    assert "…" not in buffer.getvalue()


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BARS
    assert sparkline([7, 0], 8) == "█▁"
    assert sparkline([1.0, 1.001], 8) == "▄▄"
    assert sparkline([0.0, 0.0], 8) == "▄▄"
    assert sparkline([None, 1, math.inf, -math.inf, math.nan, 2], 8) == "·▁█▁X█"
    assert sparkline([None, None], 8) == "··"
    assert sparkline(list(range(100)), 8) == BARS
    assert verdict_strip(["healthy", "exploding", None, "inconclusive"], 8).plain == "HE·?"
    assert verdict_strip(["healthy", "healthy", "invalid", "healthy"], 2).plain == "HX"


@pytest.fixture
def diverged(tmp_path: Path) -> Path:
    """Six checkpoints of a GRU that forgets at every one of them; the last two hold NaN."""
    torch.manual_seed(0)
    folder = tmp_path / "diverged"
    folder.mkdir()
    for epoch in range(1, 7):
        state = torch.nn.GRU(3, 8).state_dict()
        if epoch > 4:
            state["weight_hh_l0"][0, 0] = math.nan
        torch.save(state, folder / f"epoch_{epoch}.pt")
    return folder


def test_a_run_that_ends_in_nan_fails_the_gate_and_every_format_says_where(cli: Cli, diverged: Path) -> None:
    options = ("--T", "60", "--batch", "6", "--exponents", "1", "--fail-on", "error")
    done = cli("trend", diverged, *options)
    assert done.code == 1
    text = " ".join(done.out.split())
    assert "error TRD006 run-diverged in gru" in text
    expected = "epoch_5.pt (step 5); 2 of 6 checkpoints are not finite; the last finite checkpoint before it is"
    assert "".join(expected.split()) in "".join(text.split())  # wherever a long path breaks the lines
    assert "the values are not finite at number in the name 5 (vertical line)" in text
    rows = [line.split() for line in done.out.splitlines() if line.startswith("  log10 gain")]
    assert [(row[3][-2:], row[4]) for row in rows] == [("XX", "NaN")]
    (norms,) = (line.split() for line in done.out.splitlines() if line.startswith("  ‖W_hh‖"))
    assert norms[3] == "NaN"
    (biases,) = (line.split() for line in done.out.splitlines() if line.startswith("  bias scale"))
    assert float(biases[4]) > 0  # only weight_hh holds a NaN

    done = cli("trend", diverged, *options, "--format", "json")
    assert done.code == 1
    data = json.loads(done.out)
    (finding,) = (each for each in data["findings"] if each["rule"] == "TRD006")
    assert Path(finding["evidence"]["first_broken_path"]).name == "epoch_5.pt"
    assert Path(finding["evidence"]["last_finite_path"]).name == "epoch_4.pt"
    for point in data["points"]:
        (layer,) = point["layers"]
        broken = point["step"] >= 5
        assert (layer["measures"]["log10_gain"] is None) == broken
        assert layer["not_finite"] == ("weights of l0 are NaN or infinite (1 entry in weight_hh)" if broken else None)

    done = cli("trend", diverged, *options, "--format", "csv")
    assert done.code == 1
    for row in csv.DictReader(io.StringIO(done.out)):
        broken = float(row["step"]) >= 5
        assert math.isnan(float(row["log10_gain"])) == broken
        assert bool(row["not_finite"]) == broken
        if row["where"] == "l0":
            assert (row["gate_reset"] == "nan") == broken

    done = cli("trend", diverged, *options, "--format", "markdown")
    assert done.code == 1
    cells = [[cell.strip() for cell in line.split("|")] for line in done.out.splitlines() if "| log10 gain |" in line]
    assert [(row[4][-2:], row[5]) for row in cells] == [("XX", "NaN")]
    assert "**error** TRD006" in done.out


def test_no_empty_chart_and_no_row_without_a_number(cli: Cli, diverged: Path) -> None:
    paths = [diverged / f"epoch_{i}.pt" for i in (4, 5, 6)]
    done = cli("trend", *paths, "--T", "60", "--batch", "6", "--exponents", "1")
    assert "Gradient's gain over training" not in done.out  # one value is no curve
    done = cli("trend", *paths[1:], "--T", "60", "--batch", "6", "--exponents", "1", "--fail-on", "error")
    assert done.code == 1
    assert "log10 gain" not in done.out
    assert "no checkpoint before it is finite" in " ".join(done.out.split())


def test_nan_is_red_and_a_sparkline_marks_it() -> None:
    assert sparkline([1.0, None, math.nan, 2.0], 9) == f"{BARS[0]}·X{BARS[-1]}"
    assert sparkline([1.0, 2.0, math.nan, 3.0], 2) == f"{BARS[3]}X"
    buffer = io.StringIO()
    broken = report(math.nan, "9.pt", global_step=9000)
    Console(file=buffer, width=100, force_terminal=True, color_system="standard").print(
        table.render(trend([*RISING[:6], broken]))
    )
    assert re.search(r"\x1b\[1;31m *NaN", buffer.getvalue())
