"""Every format says what a gate did not judge and what it assumed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from rnndiag.renderers.registry import REPORTS as RENDERERS
from tests.builders.command_line import Cli

QUICK = ("--T", "20", "--batch", "4", "--no-treat")
ASSUMED = "tanh was assumed for rnn"


@pytest.fixture
def half_read(tmp_path: Path) -> Path:
    """A net with a valid RNN, an LSTM with a weight of the wrong shape, a head, and a second RNN of another width."""
    torch.manual_seed(0)
    parts = nn.ModuleDict({"rnn": nn.RNN(4, 8), "lstm": nn.LSTM(4, 8), "head": nn.Linear(8, 3), "wide": nn.GRU(9, 8)})
    state = parts.state_dict()
    state["lstm.weight_hh_l0"] = state["lstm.weight_hh_l0"][:-1]
    torch.save(state, tmp_path / "model.pt")
    torch.save(torch.zeros(4, 20, 4), tmp_path / "probe.pt")
    return tmp_path / "model.pt"


@pytest.mark.parametrize("form", ["table", *RENDERERS])
def test_every_format_says_what_was_skipped_and_assumed(cli: Cli, half_read: Path, form: str) -> None:
    probe = half_read.with_name("probe.pt")
    done = cli("check", half_read, *QUICK, "--probe", probe, "--fail-on", "never", "--format", form)
    assert done.code == 0
    text = " ".join(done.out.split())
    for name in ("lstm", "wide"):
        assert name in text
    assert "expected 1, 3 or 4 times 8 rows" in text
    assert "[T, 9]" in text or "\\\\[T, 9\\\\]" in text or "\\[T, 9\\]" in text
    assert ASSUMED in text
    if form in ("json", "jsonl"):
        skipped = json.loads(done.out)["source"]["skipped"]
        assert {each["name"]: each["recurrent"] for each in skipped} == {"lstm": True, "head": False, "wide": True}
    elif form != "sarif":  # heads and norms are ordinary
        assert "head" not in text


def test_the_last_line_counts_what_was_skipped(cli: Cli, half_read: Path) -> None:
    probe = half_read.with_name("probe.pt")
    done = cli("check", half_read, *QUICK, "--probe", probe)
    assert done.out.rstrip().endswith("Not measured: 2 layers or files.")


def test_the_last_line_counts_the_models_that_failed(cli: Cli, half_read: Path) -> None:
    probe = half_read.with_name("probe.pt")
    (half_read.parent / "lost.pt").write_bytes(b"")
    done = cli(
        "check", half_read, half_read.with_name("lost.pt"), half_read.with_name("gone.pt"), *QUICK, "--probe", probe
    )
    assert done.code == 2
    assert done.out.rstrip().endswith("Not measured: 2 models, 2 layers or files.")
    report = half_read.with_name("report.json")
    done = cli(
        "check", half_read.with_name("lost.pt"), half_read, *QUICK, "--probe", probe, "--format", f"jsonl={report}"
    )
    assert done.out.rstrip().endswith("Not measured: 1 model, 2 layers or files.")


@pytest.mark.parametrize("form", ["table", *RENDERERS])
def test_every_format_names_the_files_of_an_archive_that_were_not_read(cli: Cli, tmp_path: Path, form: str) -> None:
    torch.manual_seed(0)
    torch.save(nn.GRU(4, 8).state_dict(), tmp_path / "net.th")
    with zipfile.ZipFile(tmp_path / "nets.whl", "w") as archive:
        archive.write(tmp_path / "net.th", "data/net.th")
        archive.writestr("data/phone", b"\x1c\0\0\0TFL3" + bytes(100))
    done = cli("check", tmp_path / "nets.whl", *QUICK, "--fail-on", "never", "--format", form)
    assert (done.code, done.err) == (0, "")
    assert "phone" in done.out
    assert "a TensorFlow Lite" in done.out


def test_a_run_says_it_too(cli: Cli, half_read: Path) -> None:
    state = torch.load(half_read)
    state["rnn.bias_ih_l0"] += 0.1
    torch.save(state, half_read.with_name("model_2.pt"))
    done = cli("trend", half_read, half_read.with_name("model_2.pt"), "--order", "given", *QUICK[:4])
    assert "lstm was not measured: recurrent, but" in " ".join(done.out.split())


def test_an_undecided_net_is_a_warning_and_the_option_settles_it(cli: Cli, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rnn = nn.RNN(8, 64, nonlinearity="relu")
    with torch.no_grad():
        rnn.weight_hh_l0.normal_(0, 1.65 / 8)
    torch.save(rnn.state_dict(), tmp_path / "relu.pt")
    path = tmp_path / "relu.pt"
    done = cli("check", path, "--no-treat")
    assert (done.code, "ASM001 nonlinearity-undecided" in done.out) == (0, True)
    assert "healthy with tanh" in " ".join(done.out.split())
    assert "exploding with relu" in " ".join(done.out.split())
    assert cli("check", path, "--no-treat", "--fail-on", "warning").code == 1
    settled = cli("check", path, "--no-treat", "--nonlinearity", "relu")
    assert (settled.code, "EXP001" in settled.out, "ASM001" in settled.out) == (1, True, False)
    (tmp_path / "rnndiag.yaml").write_text("nonlinearity: relu\n", encoding="utf-8")
    assert cli("check", path, "--no-treat", "--config", tmp_path / "rnndiag.yaml").code == 1
    clean = cli("check", path, "--no-treat", "--nonlinearity", "tanh", "--fail-on", "warning")
    assert "ASM001" not in clean.out
    assert "assumed" not in clean.out


def test_a_known_undecided_net_is_known_to_a_baseline(cli: Cli, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "sample_models" / "healthy_tanh.pt"
    kept = tmp_path / "baseline.json"
    arguments = ("check", sample, "--T", "64", "--fail-on", "warning")
    assert cli(*arguments, "--write-baseline", kept).code == 1
    assert cli(*arguments, "--baseline", kept).code == 0


def test_a_run_of_undecided_checkpoints_has_one_finding(cli: Cli, tmp_path: Path) -> None:
    for k, scale in enumerate((1.4, 1.55, 1.65)):
        torch.manual_seed(0)
        rnn = nn.RNN(8, 64)
        with torch.no_grad():
            rnn.weight_hh_l0.normal_(0, scale / 8)
        torch.save(rnn.state_dict(), tmp_path / f"model_{k}.pt")
    done = cli("trend", tmp_path, "--format", "json", "--fail-on", "warning")
    document = json.loads(done.out)
    found = [each for each in document["findings"] if each["rule"] == "ASM001"]
    assert (done.code, len(found)) == (1, 1)
    assert "of 3 checkpoints" in found[0]["message"]
    # A verdict changes along a run by training only, not because an assumption matters at some checkpoints.
    assert {point["verdict"] for point in document["points"]} <= {"healthy", "vanishing", "exploding"}
    assert cli("trend", tmp_path, "--nonlinearity", "tanh", "--fail-on", "warning").code == 0


def test_junit_skips_rules_that_do_not_apply(cli: Cli) -> None:
    sample = Path(__file__).parents[2] / "sample_models" / "vanishing_tanh.pt"
    done = cli("check", sample, *QUICK, "--fail-on", "never", "--format", "junit")
    cases = {case.get("name"): case.find("skipped") for case in ElementTree.fromstring(done.out).iter("testcase")}
    for name in (
        "SAT002 forget-gate-shut",
        "INI001 forget-bias-near-zero",
        "SAT004 gates-stuck",
        "VAN002 layer-forgets",
    ):
        assert cases[name] is not None
        assert cases[name].get("message")
    assert cases["SAT001 units-saturated"] is None
