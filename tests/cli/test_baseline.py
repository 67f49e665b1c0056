"""Baselines and comparisons: only what is new or worse, between like and like."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rnndiag.baseline import difference, read_reports
from rnndiag.config import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.renderers import json as as_json
from rnndiag.report import Report
from tests.cli.conftest import Done

Cli = Callable[..., Done]
SAMPLES = Path(__file__).parents[2] / "sample_models"
T = ("--T", "64")


def simulated(seed: int = 0, **net: object) -> Report:
    return diagnose(
        RandomNet(**({"hidden": 24, "input_size": 3} | net)).build(), Probe(length=50, seed=seed), Settings()
    )


@pytest.mark.parametrize("net", [{"cell": "lstm"}, {"sigma": 0.3}, {"cell": "relu", "sigma": 5.0}])
def test_reports_are_read_back_as_they_were(tmp_path: Path, net: dict[str, object]) -> None:
    report = simulated(**net)
    path = tmp_path / "report.json"
    path.write_text(as_json.render([report, report]), encoding="utf-8")
    read = read_reports(path)
    assert as_json.render(read) == path.read_text(encoding="utf-8")


def test_a_known_finding_is_not_news_and_a_worse_one_is() -> None:
    bad, again, worse, sound = (
        simulated(**n)
        for n in ({"sigma": 0.7}, {"sigma": 0.7}, {"sigma": 0.3}, {"init": "orthogonal", "input_scale": 0.02})
    )
    assert difference(bad, again).worse == ()
    assert {f.rule for f in difference(bad, worse).worse} >= {"VAN001", "VAN003"}
    assert "VAN001" in {f.rule for f in difference(worse, bad).known}
    assert {f.rule for f in difference(bad, sound).fixed} >= {"VAN001"}
    assert "VAN001" in {f.rule for f in difference(sound, bad).worse}


def test_a_change_within_the_noise_is_not_worse() -> None:
    """Other probe sequences, the same net: nothing may be called worse."""
    reports = [simulated(seed, sigma=0.7) for seed in range(6)]
    for one in reports:
        for two in reports:
            assert "VAN001" not in {f.rule for f in difference(one, two).worse}


def test_a_raised_severity_is_worse() -> None:
    report = simulated(sigma=0.3)
    milder = replace(report, findings=tuple(replace(f, severity="info") for f in report.findings))
    assert {f.rule for f in difference(milder, report).worse} == {
        f.rule for f in report.findings if f.severity != "info"
    }
    assert difference(report, milder).worse == ()


def test_check_against_a_baseline(cli: Cli, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    bad, sound = SAMPLES / "saturated_tanh.pt", SAMPLES / "healthy_tanh.pt"
    assert cli("check", bad, sound, *T, "--write-baseline", kept).code == 1
    both = cli("check", bad, sound, *T, "--baseline", kept)
    assert both.code == 0
    assert "nothing new" in both.out
    assert "Known from the baseline: 3" in both.out
    assert cli("check", bad, *T, "--baseline", kept).code == 0
    assert cli("check", bad, *T, "--baseline", bad).code == 0  # a checkpoint serves too
    document = json.loads(kept.read_text(encoding="utf-8"))
    document[0]["findings"] = []
    kept.write_text(json.dumps(document), encoding="utf-8")
    again = cli("check", bad, *T, "--baseline", kept)
    assert again.code == 1
    assert "VAN001" in again.out


def test_baselines_that_do_not_fit(cli: Cli, tmp_path: Path) -> None:
    kept, older, text = tmp_path / "kept.json", tmp_path / "older.json", tmp_path / "text.json"
    bad = SAMPLES / "saturated_tanh.pt"
    cli("check", bad, *T, "--write-baseline", kept)
    older.write_text(
        json.dumps(json.loads(kept.read_text(encoding="utf-8")) | {"schema_version": "0"}), encoding="utf-8"
    )
    text.write_text("{no json", encoding="utf-8")
    for model, baseline, options, words in (
        (bad, older, T, "expected reports of schema_version '1', got '0'"),
        (bad, text, T, "expected a report written by --format json"),
        (bad, tmp_path / "none.json", T, "no such file; --write-baseline makes one"),
        (SAMPLES / "gru.pt", kept, T, "expected a report of the same model, got other layers"),
        (bad, kept, ("--T", "65"), "use the same options"),
    ):
        done = cli("check", model, *options, "--baseline", baseline)
        assert (done.code, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert words in line


def test_compare_two_checkpoints(cli: Cli) -> None:
    sound, bad = SAMPLES / "healthy_tanh.pt", SAMPLES / "vanishing_tanh.pt"
    worse, better, same = (cli("compare", *pair, *T) for pair in ((sound, bad), (bad, sound), (sound, sound)))
    assert (worse.code, better.code, same.code) == (1, 0, 0)
    assert "worse VAN001" in worse.out
    assert "fixed VAN001" in better.out
    assert "Nothing is worse" in same.out
    assert cli("compare", sound, bad, *T, "--fail-on", "never").code == 0
    for done in (worse, better, same):
        assert max(map(len, done.out.splitlines())) <= 80


def test_compare_as_json_and_with_a_kept_report(cli: Cli, tmp_path: Path) -> None:
    sound, bad, kept = SAMPLES / "healthy_tanh.pt", SAMPLES / "vanishing_tanh.pt", tmp_path / "kept.json"
    cli("inspect", sound, *T, "--format", f"json={kept}")
    document = json.loads(cli("compare", kept, bad, *T, "--format", "json").out)
    assert document == json.loads(cli("compare", sound, bad, *T, "--format", "json").out)
    assert document["verdicts"] == ["healthy", "vanishing"]
    changes = {(c["where"], c["measure"]): c for c in document["changes"]}
    assert changes["rnn", "log10 gain"]["significant"] is True
    assert changes["rnn.l0", "spectral norm"]["significant"] is None
    assert document["findings"]["worse"][0]["rule"] == "VAN001"


def test_a_small_step_of_training_changes_nothing_significantly(cli: Cli, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.GRU(3, 12)
    torch.save(net.state_dict(), tmp_path / "a.pt")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 1e-6 * torch.randn_like(parameter)
    torch.save(net.state_dict(), tmp_path / "b.pt")
    document = json.loads(cli("compare", tmp_path / "a.pt", tmp_path / "b.pt", *T, "--format", "json").out)
    assert not any(change["significant"] for change in document["changes"])
    assert document["findings"]["worse"] == []


def test_different_models_are_not_compared(cli: Cli) -> None:
    done = cli("compare", SAMPLES / "gru.pt", SAMPLES / "lstm.pt", *T)
    assert done.code == 2
    assert "expected a report of the same model" in done.err
