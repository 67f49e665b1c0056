"""Baselines and comparisons: only what is new or worse, between like and like."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rnndiag.comparison.baseline import difference, read_reports
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.renderers import json as as_json
from rnndiag.report import Report
from tests.builders.command_line import Cli
from tests.builders.fleets import save
from tests.paths import SAMPLES

T = ("--T", "64")
QUICK = ("--T", "12", "--batch", "3", "--exponents", "2")


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
    assert "Known from the baseline: 4" in both.out  # one of them is ASM001 of the other model
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
        (bad, tmp_path / "none.json", T, "no such file; create it with --write-baseline"),
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
    options = (*T, "--nonlinearity", "tanh")
    cli("inspect", sound, *options, "--format", f"json={kept}")
    document = json.loads(cli("compare", kept, bad, *options, "--format", "json").out)
    assert document == json.loads(cli("compare", sound, bad, *options, "--format", "json").out)
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


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sound models, and one whose numbers are not finite."""
    monkeypatch.chdir(tmp_path)
    save(Path("a.pt"), 0)
    save(Path("b.pt"), 1)
    broken = nn.RNN(2, 4).state_dict()
    broken["weight_hh_l0"][0, 0] = torch.nan
    torch.save(broken, "nan.pt")
    return tmp_path


def test_lines_held_to_a_baseline_are_none_of_a_run_without(cli: Cli, models: Path) -> None:
    """What the baseline hid stays wrong: the gate must not pass it for being known once."""
    assert cli("check", "nan.pt", *QUICK, "--write-baseline", "kept.json").code == 1
    assert cli("check", "nan.pt", *QUICK, "--baseline", "kept.json", "--format", "jsonl=out.jsonl").code == 0
    done = cli("check", "nan.pt", *QUICK, "--format", "jsonl=out.jsonl", "--resume")
    assert (done.code, "out.jsonl was measured with another probe, other options" in done.err) == (2, True)
    held = json.loads((models / "out.jsonl").read_text(encoding="utf-8"))["conditions"]
    cli("check", "nan.pt", *QUICK, "--fail-on", "never", "--format", "jsonl=plain.jsonl")
    assert held != json.loads((models / "plain.jsonl").read_text(encoding="utf-8"))["conditions"]


def test_a_model_that_the_baseline_lacks_costs_no_other(cli: Cli, models: Path) -> None:
    assert cli("check", "b.pt", "nan.pt", *QUICK, "--fail-on", "never", "--write-baseline", "kept.json").code == 0
    done = cli("check", "a.pt", "b.pt", "nan.pt", *QUICK, "--baseline", "kept.json", "--format", "json")
    assert [report["source"]["path"] for report in json.loads(done.out)] == ["b.pt", "nan.pt"]
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "kept.json: holds no report of a.pt" in done.err


def test_a_baseline_is_read_before_anything_is_measured(cli: Cli, models: Path) -> None:
    (models / "kept.json").write_text("{no json", encoding="utf-8")
    done = cli("check", "a.pt", "b.pt", *QUICK, "--baseline", "kept.json", "--format", "jsonl=out.jsonl")
    assert (done.code, (models / "out.jsonl").exists()) == (2, False)


@pytest.mark.parametrize("paths", [["gone.pt"], ["a.pt", "gone.pt"]])
def test_a_run_that_failed_writes_no_baseline(cli: Cli, models: Path, paths: list[str]) -> None:
    assert cli("check", "a.pt", *QUICK, "--fail-on", "never", "--write-baseline", "kept.json").code == 0
    before = (models / "kept.json").read_bytes()
    done = cli("check", *paths, *QUICK, "--write-baseline", "kept.json")
    assert (done.code, "kept.json is not written" in done.err) == (2, True)
    assert (models / "kept.json").read_bytes() == before


def test_a_checkpoint_as_the_baseline_is_read_as_the_model_is(cli: Cli, models: Path) -> None:
    torch.manual_seed(0)
    torch.save({"my.foo": torch.randn(4, 4) / 2, "my.bar": torch.randn(4, 2)}, "mapped.pt")
    told = ("check", "mapped.pt", "--map", "hh=*.foo,ih=*.bar", *QUICK, "--fail-on", "info")
    assert cli(*told, "--baseline", "mapped.pt").code == 0
