"""The command line as users meet it: results, streams, exit codes, wrong input."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.renderers import table
from rnndiag.report import json_schema, schema_text
from tests.builders.command_line import Cli, Done, one_line

GOLDEN = Path(__file__).parent.parent / "golden"
QUICK = ("--T", "12", "--batch", "3")


def test_inspect_shows_a_table(cli: Cli, saved: Path) -> None:
    done = cli("inspect", saved, *QUICK)
    assert done.code == 0
    assert done.err == ""
    for word in ("rnn.l0", "gru 4>8", "Verdict", "update", "fc", "embed", "skipped"):
        assert word in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_inspect_prints_one_json_document(cli: Cli, saved: Path) -> None:
    done = cli("inspect", saved, *QUICK, "--format", "json")
    document = json.loads(done.out)
    jsonschema.validate(document, json_schema())
    assert document["source"]["format"] == "torch"
    assert {item["name"] for item in document["source"]["skipped"]} == {"embed", "fc"}
    assert document["probe"] == {"kind": "noise", "length": 12, "batch": 3, "scale": 1.0, "seed": 0}


def test_several_files_give_an_array_in_order(cli: Cli, saved: Path, tmp_path: Path) -> None:
    second = tmp_path / "a.pt"
    torch.save(nn.LSTM(3, 5).state_dict(), second)
    done = cli("inspect", saved, second, *QUICK, "--format", "json")
    assert [r["layers"][0]["cell"] for r in json.loads(done.out)] == ["gru", "lstm"]
    folder = cli("inspect", tmp_path, *QUICK, "--format", "json")
    assert [r["source"]["path"] for r in json.loads(folder.out)] == [str(second), str(saved)]
    glob = cli("inspect", tmp_path / "m*.pt", *QUICK, "--format", "json")
    assert json.loads(glob.out)["source"]["path"] == str(saved)


def test_an_unreadable_file_does_not_hide_the_others(cli: Cli, saved: Path) -> None:
    done = cli("inspect", saved.with_name("missing.pt"), saved, *QUICK)
    assert done.code == 2
    assert "missing.pt: no such file" in done.err
    assert "Verdict" in done.out


def test_tokens_draw_from_the_embedding(cli: Cli, saved: Path) -> None:
    document = json.loads(cli("inspect", saved, *QUICK, "--probe", "tokens", "--format", "json").out)
    assert document["probe"]["kind"] == "tokens"


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt"])
def test_own_array(cli: Cli, saved: Path, tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).normal(size=(5, 9, 4)).astype(np.float32)
    path = tmp_path / f"probe.{suffix}"
    {
        "npy": lambda: np.save(path, array),
        "npz": lambda: np.savez_compressed(path, x=array),
        "pt": lambda: torch.save(torch.from_numpy(array), path),
    }[suffix]()
    document = json.loads(cli("inspect", saved, "--probe", path, "--format", "json").out)
    assert document["probe"] == {"kind": "file", "length": 9, "batch": 5, "scale": 1.0, "seed": 0}


def test_own_arrays_that_cannot_serve(cli: Cli, saved: Path, tmp_path: Path) -> None:
    wide, objects, several, text = (tmp_path / name for name in ("w.npy", "o.npy", "s.npz", "t.npy"))
    np.save(wide, np.zeros((9, 7)))
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    np.savez(several, a=np.zeros((2, 4)), b=np.zeros((2, 4)))
    text.write_text("no array\n", encoding="utf-8")
    for path, words in (
        (wide, "rnn expects a probe of shape [T, 4] or [B, T, 4], got width 7"),
        (objects, "an object array is a pickle, which is not run"),
        (several, "expected one array, got 2 (a, b)"),
        (text, "expected a .npy, .npz or .pt file"),
        (tmp_path / "none.npy", "no such file"),
    ):
        assert words in one_line(cli("inspect", saved, "--probe", path))


def test_simulate_and_its_saved_net_give_the_same_report(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    for cell in ("relu", "lstm"):
        options, saved = ("--lag", "9", "--seed", "5", "--format", "json"), ("--save", path, "--force")
        drawn = cli("simulate", "--cell", cell, "--hidden", "9", "--layers", "2", *QUICK, *options, *saved)
        again = cli("inspect", path, *QUICK, *options)
        one, two = json.loads(drawn.out), json.loads(again.out)
        assert one.pop("source")["format"] == "random"
        assert two.pop("source")["format"] == "torch"
        assert not any("assumed" in note for note in two.pop("notes"))
        one.pop("notes")
        assert one.pop("theory")["applies"] == (cell == "relu")
        assert two.pop("theory") is None  # a file does not say which law it was drawn from
        assert one == two


def test_sigma_decides_the_verdict(cli: Cli) -> None:
    for sigma, verdict in (("0.3", "vanishing"), ("4", "exploding")):
        done = cli("simulate", "--sigma", sigma, "--input-scale", "0.1", "--T", "100", "--format", "json")
        assert json.loads(done.out)["verdict"] == verdict


def test_schema_is_the_reports(cli: Cli) -> None:
    assert cli("schema").out == schema_text()


def test_verbose_shows_every_step_and_block(cli: Cli, saved: Path) -> None:
    brief, whole = cli("inspect", saved, *QUICK).out, cli("inspect", saved, *QUICK, "--verbose").out
    assert whole.count("rnn.l0") >= brief.count("rnn.l0") + 7
    assert "Recurrent weight by gate" in whole


def test_formats_go_to_files_whole(cli: Cli, saved: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "out.json", tmp_path / "out.txt"
    done = cli("inspect", saved, *QUICK, "--format", f"json={out}", "--format", f"table={text}")
    assert (done.code, done.out) == (0, "")
    jsonschema.validate(json.loads(out.read_text(encoding="utf-8")), json_schema())
    assert "Verdict" in text.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt", "out.json", "out.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inspect",), "no PATH given"),
        (("inspct",), "No such command 'inspct'"),
        (("inspct",), "Did you mean 'inspect'? (rnndiag --help lists the commands and options)"),
        (("inspect", "--t", "3"), "No such option: --t (Possible options: --T, --quiet, --treat) (rnndiag inspect -"),
        (("check", "x", "--fail-on", "warn"), "'--fail-on': 'warn' is not one of 'error', 'warning'"),
        (("compare", "a.pt"), "Missing argument 'NEW' (rnndiag compare --help lists its options)"),
        (("x" * 5000,), "No such command"),
        (("inspect", "missing.pt"), "missing.pt: no such file"),
        (("inspect", "no*.pt"), "the pattern matches no file"),
        (("simulate", "--sigma", "0"), "--sigma: expected a number above 0, got 0.0"),
        (("simulate", "--sigma", "nan"), "--sigma: expected a number above 0"),
        (("simulate", "--sigma", "1", "--init", "xavier"), "--sigma scales the gaussian init, but --init is xavier"),
        (("simulate", "--init", "nonsense"), "nonsense"),
        (("simulate", "--T", "0"), "--T: expected at least 1 step, got 0"),
        (("simulate", "--T", "many"), "'--T' / '--length'"),
        (("simulate", "--hidden", "0"), "--hidden: expected at least 1, got 0"),
        (("simulate", "--hidden", "1000000"), "--hidden 1000000: the weights alone would take"),
        (
            ("simulate", "--T", "5", "--lag", "6"),
            "--lag 6 is longer than the probe; expected at most --T 5; raise --T or lower --lag",
        ),
        (("simulate", "--lag", "0"), "--lag: expected at least 1 step, got 0"),
        (("simulate", "--exponents", "few"), "--exponents: expected a whole number or 'all', got 'few'"),
        (
            ("simulate", "--probe", "nose"),
            "--probe nose: expected one of noise, zeros, constant, sine, impulse, tokens",
        ),
        (("simulate", "--probe", "nose"), "or a .npy, .npz or .pt file; did you mean noise?"),
        (("simulate", "--probe", "x.npy"), "or a .npy, .npz or .pt file; no such file"),
        (("simulate", "--probe", "tokens"), "expects an embedding [V, 16] in the same model, got none"),
        (("simulate", "--device", "nowhere"), "--device nowhere: not available here"),
        (("simulate", "--layer", "x*"), "--layer 'x*' matches no layer"),
        (("simulate", "--format", "jsn"), "did you mean json?"),
        (("simulate", "--format", "json", "--format", "table"), "two formats for stdout"),
        (("simulate", "--output", "/no/such/folder/x"), "the folder /no/such/folder does not exist"),
        (("simulate", "--save", "/no/such/folder/x"), "the folder /no/such/folder does not exist"),
        (("simulate", "--forget-bias", "1"), "--forget-bias is for --cell lstm, got --cell tanh"),
        (
            (
                "simulate",
                "--nonsense",
            ),
            "--nonsense",
        ),
    ],
)
def test_wrong_input_gets_one_clear_line(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    assert words in one_line(cli(*arguments))


def test_a_file_in_place_of_a_command(cli: Cli, saved: Path) -> None:
    assert f"; to measure this file, run rnndiag inspect {saved} (rnndiag --help" in one_line(cli(saved))


def test_files_that_hold_no_layer(cli: Cli, tmp_path: Path) -> None:
    linear, text, empty = (tmp_path / name for name in ("linear.pt", "text.pt", "empty.pt"))
    torch.save(nn.Linear(3, 4).state_dict(), linear)
    text.write_text("hello\n", encoding="utf-8")
    empty.touch()
    assert "no recurrent layer" in one_line(cli("inspect", linear))
    assert "text.pt" in one_line(cli("inspect", text))
    assert "empty.pt" in one_line(cli("inspect", empty))


def test_a_broken_model_is_a_verdict_not_an_error(cli: Cli, tmp_path: Path) -> None:
    net = nn.RNN(3, 4)
    net.weight_hh_l0.data[0, 0] = float("nan")
    torch.save(net.state_dict(), tmp_path / "nan.pt")
    done = cli("inspect", tmp_path / "nan.pt", *QUICK)
    assert (done.code, done.err) == (0, "")
    assert "invalid" in done.out
    assert "NUM001" in done.out


def bounded_net() -> Model:
    """A diagonal tanh net at rest: every number in its report has a closed form."""
    zeros, weight = torch.zeros(3, 2).double(), torch.diag(torch.tensor([0.5, 0.25, 0.125])).double()
    net = RecurrentLayer("rnn.l0", "tanh", zeros, weight, nonlinearity_assumed=True)
    return Model(Source("closed_form.pt", "random"), (Stack("rnn", ((net,),)),), ("tanh was assumed for rnn.l0",))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_table(width: int, request: pytest.FixtureRequest) -> None:
    report = diagnose(bounded_net(), Probe("zeros", 20, 2))
    buffer = io.StringIO()
    Console(file=buffer, width=width, highlight=False).print(table.render([report]))
    text = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
    path = GOLDEN / f"table_{width}.txt"
    if request.config.getoption("--regenerate"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "pytest --regenerate rewrites it, if the change is meant"
    assert max(map(len, text.splitlines())) <= width
    assert "0.5" in text  # the largest singular value and the radius, exactly


def test_unknown_codes(cli: Cli) -> None:
    assert "no rule 'VAN01'; did you mean VAN001 gradient-vanishes?" in one_line(cli("explain", "VAN01"))
    assert "--select: no rule begins with 'VNA'; did you mean VAN?" in one_line(cli("check", "x.pt", "--select", "VNA"))


def test_a_mapping_by_option_and_by_config(
    cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a.x": torch.eye(4), "a.y": torch.eye(4)}, path)
    command = ("inspect", path, "--T", "10", "--format", "json")
    monkeypatch.chdir(tmp_path)
    assert "no recurrent layer" in cli(*command).err
    done = cli(*command, "--map", "hh=a.x,ih=a.y,cell=relu,layout=rows")
    assert json.loads(done.out)["layers"][0]["cell"] == "relu"
    (tmp_path / "rnndiag.yaml").write_text('map: ["hh=*.x,ih=*.y,cell=tanh,layout=rows"]\n', encoding="utf-8")
    assert json.loads(cli(*command).out)["layers"][0]["cell"] == "tanh"
    (tmp_path / "rnndiag.yaml").write_text('map: ["hh=*.x"]\n', encoding="utf-8")
    done = cli(*command)
    assert done.code == 2
    assert "rnndiag.yaml: at map 'hh=*.x': ih= is missing" in done.err
