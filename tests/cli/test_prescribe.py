"""``rnndiag prescribe`` as a user meets it."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.builders.command_line import Cli
from tests.paths import SAMPLES

ILL = str(SAMPLES / "exploding_tanh.pt")


def test_the_table_says_what_was_tried_chosen_and_left(cli: Cli) -> None:
    done = cli("prescribe", ILL, "--T", "64")
    assert (done.code, done.err) == (0, "")
    for told in ("before", "Treatments, each tried on a copy", "In training", "Chosen: rescale", "no findings left"):
        assert told in done.out
    assert "exploding -> healthy, log10 gain 8.39 -> " in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_goes_to_a_file_and_the_model_to_another(cli: Cli, tmp_path: Path) -> None:
    report, model = tmp_path / "report.json", tmp_path / "cured.pt"
    done = cli("prescribe", ILL, "--T", "64", "--format", "json", "--output", str(report), "--save", str(model))
    assert (done.code, done.out) == (0, "")
    assert done.err == f"rnndiag: wrote {report}\nrnndiag: wrote {model}: the model under rescale\n"
    document = json.loads(report.read_text(encoding="utf-8"))
    assert (document["chosen"], document["after"]["verdict"]) == ("rescale", "healthy")
    assert cli("check", str(model), "--T", "64").code == 0
    refused = cli("prescribe", ILL, "--T", "64", "--save", str(model))
    assert refused.code == 2
    assert "--force" in refused.err
    assert cli("prescribe", ILL, "--T", "64", "--save", str(model), "--force", "--treatment", "rescale").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--treatment", "nothing"], "--treatment 'nothing' matches none"),
        (["--take", "clip"], "it changes training, not the model"),
        (["--save", ILL], "is the model itself"),
        (["--output", "same", "--save", "same"], "name two different files"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("prescribe", ILL, "--T", "20", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_no_treat_leaves_suggestions_untried(cli: Cli) -> None:
    tried, plain = (
        json.loads(cli("inspect", ILL, "--T", "64", "--format", "json", *o).out) for o in ([], ["--no-treat"])
    )
    for document, expected in ((tried, True), (plain, False)):
        numbers = [s["after"] for f in document["findings"] for s in f["suggestions"] if s["treatment"] == "rescale"]
        assert numbers
        assert all((number is not None) is expected for number in numbers)


@pytest.mark.parametrize("verbose", [False, True])
def test_the_table_says_what_it_rests_on(cli: Cli, tmp_path: Path, verbose: bool) -> None:
    """What was taken for granted, and what is there and was not measured."""
    torch.manual_seed(0)
    heads = {f"head{i}.weight": torch.zeros(2, 2) for i in range(9)}
    state = {f"rnn.{name}": value for name, value in nn.RNN(3, 4).state_dict().items()}
    torch.save(state | {"other.weight_hh_l0": torch.zeros(5, 4)} | heads, tmp_path / "model.pt")
    more = ["--verbose"] if verbose else []
    out = cli("prescribe", tmp_path / "model.pt", "--T", "20", "--treatment", "rescale", *more).out
    report = json.loads(cli("inspect", tmp_path / "model.pt", "--T", "20", "--format", "json").out)
    told = " ".join(out.split())
    assert report["notes"]
    assert all(" ".join(note.split()) in told for note in report["notes"])
    names = [skipped["name"] for skipped in report["source"]["skipped"]]
    assert "other" in names
    assert [name in told for name in names] == [verbose or index < 6 for index in range(len(names))]
    assert ("more (--verbose lists them)" in told) is not verbose


def never_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it measures before it refuses")

    monkeypatch.setattr("rnndiag.prescription.prescribe", refuse)


def archive(tmp_path: Path) -> str:
    with tarfile.open(tmp_path / "models.tar", "w") as file:
        file.add(ILL, "model.pt")
    return str(tmp_path / "models.tar")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda _: "-", ["--save", "new.pt"], "-: expected a file or folder on this machine"),
        (lambda _: "https://host/model.pt", ["--save", "new.pt"], "expected a file or folder on this machine"),
        (archive, ["--save", "new.pt"], "unpack it first"),
        (
            lambda _: ILL,
            ["--take", "gru+chrono", "--save", "new.pt"],
            "changes the architecture, which cannot be written",
        ),
        (lambda _: f"file://{ILL}", ["--save", ILL], "is the model itself"),
        (lambda _: ILL, ["--save", "missing/new.pt"], "does not exist; make it first"),
        *(
            [(lambda _: ILL, ["--save", "/proc/new.pt"], "/proc/new.pt: cannot be written in its folder")]
            if sys.platform == "linux"
            else []
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_is_measured(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[[Path], str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    never_measures(monkeypatch)
    done = cli("prescribe", model(tmp_path), "--T", "20", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_file_url_is_written_back(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "new.pt"
    assert cli("prescribe", f"file://{ILL}", "--T", "20", "--take", "rescale", "--save", str(target)).code == 0
    assert target.exists()


@pytest.mark.parametrize("format_", ["json", "table"])
def test_the_report_stands_where_nothing_is_written(cli: Cli, tmp_path: Path, format_: str) -> None:
    well = str(SAMPLES / "gru.pt")
    done = cli("prescribe", well, "--T", "20", "--save", str(tmp_path / "new.pt"), "--format", format_)
    assert done.code == 2
    assert "not written: the model is healthy" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "new.pt").exists()
    if format_ == "json":
        assert json.loads(done.out)["before"]["verdict"] == "healthy"
    else:
        assert "Healthy: nothing to treat." in done.out
