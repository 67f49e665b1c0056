"""Config files: found, checked, and put between option and default."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.builders.command_line import Cli
from tests.paths import SAMPLES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, a level below the one that config files are put in."""
    below = tmp_path / "project" / "below"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return below


def write(folder: Path, text: str, name: str = "rnndiag.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def findings(cli: Cli, *options: object, model: str = "saturated_tanh") -> dict[str, str]:
    done = cli("check", SAMPLES / f"{model}.pt", "--no-treat", "--format", "json", *options)
    return {f["rule"]: f["severity"] for f in json.loads(done.out)["findings"]}


def test_found_upward_and_overruled_by_options(cli: Cli, here: Path) -> None:
    write(here.parent, "lag: 40\nlength: 50\nbatch: 4\n")
    probed = json.loads(cli("inspect", SAMPLES / "gru.pt", "--batch", "5", "--format", "json").out)
    assert (probed["probe"]["length"], probed["stacks"][0]["lag"], probed["probe"]["batch"]) == (50, 40, 5)


def test_the_nearest_file_alone_counts_and_yaml_before_pyproject(cli: Cli, here: Path) -> None:
    write(here.parent, "length: 30\n")
    write(here, "[tool.rnndiag]\nlag = 7\n", "pyproject.toml")
    report = json.loads(cli("inspect", SAMPLES / "gru.pt", "--format", "json").out)
    assert (report["probe"]["length"], report["stacks"][0]["lag"]) == (7, 7)
    write(here, "lag: 9\n")
    assert json.loads(cli("inspect", SAMPLES / "gru.pt", "--format", "json").out)["stacks"][0]["lag"] == 9


def test_a_pyproject_of_others_is_passed_over(cli: Cli, here: Path) -> None:
    write(here.parent, "lag: 11\n")
    write(here, "[tool.other]\nlag = 7\n", "pyproject.toml")
    assert json.loads(cli("inspect", SAMPLES / "gru.pt", "--format", "json").out)["stacks"][0]["lag"] == 11


def test_rules_by_code_family_and_layer(cli: Cli, here: Path) -> None:
    assert {"VAN001", "SAT001", "VAN005"} <= set(findings(cli))
    write(here, "rules: {SAT001: {rate: 0.99}, VAN001: {severity: info}}\n")
    assert findings(cli)["VAN001"] == "info"
    assert "SAT001" not in findings(cli)
    write(here, "layers: {'rnn*': {ignore: [VAN, NUM], rules: {SAT: {severity: error}}}}\n")
    assert findings(cli) == {"SAT001": "error"}
    write(here, "layers: {'other*': {ignore: [VAN]}}\n")
    assert "VAN001" in findings(cli)
    write(here, "rules: {VAN001: {severity: off}}\n".replace("off", "'off'"))
    assert "VAN001" not in findings(cli)


def test_select_ignore_and_fail_on(cli: Cli, here: Path) -> None:
    write(here, "ignore: [van001]\nfail-on: warning\n")
    assert cli("check", SAMPLES / "saturated_tanh.pt", "--no-treat").code == 1
    assert cli("check", SAMPLES / "saturated_tanh.pt", "--no-treat", "--fail-on", "error").code == 0
    assert set(findings(cli, "--select", "VAN")) == {"VAN005"}


def test_thresholds_of_the_verdict(cli: Cli, here: Path) -> None:
    write(here, "thresholds: {vanishing: -100}\nlength: 64\n")
    report = json.loads(cli("inspect", SAMPLES / "vanishing_tanh.pt", "--no-treat", "--format", "json").out)
    assert report["verdict"] == "healthy"


def test_paths_and_probe_lie_relative_to_the_file(cli: Cli, here: Path) -> None:
    (here.parent / "models").symlink_to(SAMPLES)
    np.save(here.parent / "probe.npy", np.zeros((20, 1)))
    write(here.parent, "paths: [models/gru.pt]\nprobe: probe.npy\n")
    report = json.loads(cli("check", "--format", "json").out)
    assert report["probe"]["kind"] == "file"
    assert report["source"]["path"].endswith("models/gru.pt")
    assert not report["layers"][0]["lyapunov"]["driven"]


def test_show_config_names_the_source_of_each_value(cli: Cli, here: Path) -> None:
    path = write(here, "lag: 40\nrules: {SAT001: {rate: 0.9}}\n")
    shown = cli("check", "--show-config", "--batch", "3")
    assert shown.code == 0
    rows = {
        line.split()[0]: line.split()[1:]
        for line in shown.out.replace(f"\n{' ' * 20}", "").splitlines()
        if line.split()
    }
    assert rows["lag"][0] == "40"
    assert rows["batch"][:2] == ["3", "--batch"]
    assert rows["seed"] == ["0", "default"]
    assert rows["rules.SAT001.rate"][0] == "0.9"
    assert rows["rules.SAT003.share"] == ["0.25", "default"]
    assert str(path)[:20] in shown.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lagg: 3\n", "at top level: unknown key 'lagg'; did you mean 'lag'?"),
        ("lag: many\n", "at lag: expected `int | null`, got `str`"),
        ("fail-on: warn\n", "at fail-on: expected error, warning, info, never, got 'warn'"),
        ("- 1\n", "at top level: expected `object`, got `array`"),
        ("lag: [\n", "not valid YAML at line 2"),
        ("thresholds: {vanishin: 2}\n", "at thresholds: unknown key 'vanishin'; did you mean 'vanishing'?"),
        ("rules: {SAT01: {rate: 1}}\n", "at rules: no rule begins with 'SAT01'; did you mean SAT001?"),
        ("rules: {SAT001: {rat: 1}}\n", "at rules.SAT001: unknown key 'rat'; did you mean 'rate'?"),
        ("rules: {SAT001: {rate: high}}\n", "at rules.SAT001.rate: expected a number, got 'high'"),
        ("rules: {SAT001: {rate: .nan}}\n", "at rules.SAT001.rate: expected a number, got nan"),
        ("rules: {TRD001: {p_value: -1}}\n", "TRD001.p_value: expected a probability above 0 and up to 1, got -1"),
        ("rules: {TRD: {p_value: 0}}\n", "at rules.TRD.p_value: expected a probability above 0 and up to 1, got 0"),
        ("rules: {TRD001: {checkpoints: .inf}}\n", "TRD001.checkpoints: expected a whole number from 2 on, got inf"),
        ("rules: {TRD001: {checkpoints: 6.5}}\n", "TRD001.checkpoints: expected a whole number from 2 on, got 6.5"),
        ("rules: {TRD001: {ahead: .inf}}\n", "at rules.TRD001.ahead: expected a finite number from 0 on, got inf"),
        ("rules: {SAT001: {severity: bad}}\n", "at rules.SAT001.severity: expected error, warning, info or off"),
        ("rules: {SAT001: 5}\n", "at rules['SAT001']: expected `object`, got `int`"),
        ("layers: {'a*': {ignor: [X]}}\n", "at layers['a*']: unknown key 'ignor'; did you mean 'ignore'?"),
        ("layers: {'a*': {ignore: [XYZ]}}\n", "at layers['a*'].ignore: no rule begins with 'XYZ'"),
        ("select: [QQQ]\n", "at select: no rule begins with 'QQQ'"),
        ("lag: 0\n", "--lag: expected at least 1 step, got 0"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(cli: Cli, here: Path, text: str, words: str) -> None:
    write(here, text)
    done = cli("check", SAMPLES / "gru.pt")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert words in line


def test_config_option(cli: Cli, here: Path) -> None:
    elsewhere = write(here.parent.parent, "lag: 5\n", "other.yaml")
    report = json.loads(cli("inspect", SAMPLES / "gru.pt", "--config", elsewhere, "--format", "json").out)
    assert report["stacks"][0]["lag"] == 5
    assert "--config none.yaml: no such file" in cli("inspect", SAMPLES / "gru.pt", "--config", "none.yaml").err
    toml = write(here, "[tool.x]\n", "a.toml")
    assert "expected a table [tool.rnndiag], got none" in cli("inspect", "x.pt", "--config", toml).err
    assert math.isclose(report["probe"]["scale"], 1)
