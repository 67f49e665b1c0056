"""``rnndiag trend`` on files: streams, formats, exit codes."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from rich.console import Console

from rnndiag.renderers import trend as table
from rnndiag.renderers.sparkline import BARS, sparkline, verdict_strip
from rnndiag.trend import trend
from tests.cli.conftest import Done
from tests.test_trend import RISING, report

Cli = Callable[..., Done]
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
    told = json.loads(cli("trend", run, *SHORT, "--format", "json").out)
    assert told["order"]["by"] == "step"
    assert [point["step"] for point in told["points"]] == [1000.0 * (i + 1) for i in range(10)]
    assert Path(told["points"][0]["path"]).name == "9.ckpt"
    for i, point in enumerate(told["points"]):
        assert point["stacks"][0]["measures"]["log10_gain"] == pytest.approx(-1 + 0.4 * i, abs=1e-5)
        assert {"spectral_norm", "saturation", "exponent", "entry_scale"} <= set(point["layers"][0]["measures"])
    assert told["changes"] == []
    (finding,) = told["findings"]
    assert finding["evidence"]["crosses_at"] == pytest.approx(11_000, rel=1e-3)
    assert told["alarms"][0]["rule"] == "TRD001"


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
    assert cli("trend", run, *SHORT, *formats) == Done(0, "", "")
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
    told = json.loads(cli("trend", run, *SHORT, "--format", "json").out)
    assert told["order"]["by"] == "time"
    assert "best.ckpt holds no number in the name" in told["order"]["reason"]


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
    assert sparkline([None, 1, math.inf, -math.inf, math.nan, 2], 8) == "·▁█▁·█"
    assert sparkline([None, None], 8) == "··"
    assert sparkline(list(range(100)), 8) == BARS
    assert verdict_strip(["healthy", "exploding", None, "inconclusive"], 8).plain == "HE·?"
    assert verdict_strip(["healthy", "healthy", "invalid", "healthy"], 2).plain == "HX"
