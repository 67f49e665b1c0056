"""``rnndiag prescribe`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done

SAMPLES = Path(__file__).parents[2] / "sample_models"
ILL = str(SAMPLES / "exploding_tanh.pt")

Cli = Callable[..., Done]


def test_the_table_says_what_was_tried_chosen_and_left(cli: Cli) -> None:
    done = cli("prescribe", ILL, "--T", "64")
    assert (done.code, done.err) == (0, "")
    for told in ("before", "Treatments, each tried on a copy", "In training", "Chosen: rescale", "no findings left"):
        assert told in done.out
    assert "exploding -> healthy, log10 gain 8.39 -> " in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_goes_to_a_file_and_the_model_to_another(cli: Cli, tmp_path: Path) -> None:
    report, model = tmp_path / "report.json", tmp_path / "cured.pt"
    done = cli("prescribe", ILL, "--T", "64", "--format", "json", "--output", str(report), "-o", str(model))
    assert (done.code, done.out) == (0, "")
    assert done.err == f"rnndiag: {model}: the model under rescale, in its own format\n"
    document = json.loads(report.read_text(encoding="utf-8"))
    assert (document["chosen"], document["after"]["verdict"]) == ("rescale", "healthy")
    assert cli("check", str(model), "--T", "64").code == 0
    refused = cli("prescribe", ILL, "--T", "64", "-o", str(model))
    assert refused.code == 2
    assert "--force" in refused.err
    assert cli("prescribe", ILL, "--T", "64", "-o", str(model), "--force", "--treatment", "rescale").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--treatment", "nothing"], "--treatment 'nothing' matches none"),
        (["--take", "clip"], "it changes training, not the model"),
        (["-o", ILL], "is the model itself"),
        (["--output", "same", "-o", "same"], "name two files"),
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
