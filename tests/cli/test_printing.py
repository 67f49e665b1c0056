"""Files, layers, options and reports with names made to do harm, through the command line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from rnndiag.config.settings import Settings
from rnndiag.printable import MAX_MESSAGE
from rnndiag.testing import assert_healthy
from tests.builders.command_line import Cli, Done
from tests.builders.hostile_text import EXAMPLES, FORMULA_STARTS, assert_safe, is_number

QUICK = ("--T", "8", "--batch", "2", "--exponents", "1")
NAMES = [name.replace("\ud800", "") for name in EXAMPLES if "/" not in name]
"""Names that a file can have: the surrogate U+D800 represents no byte."""
FORMATS = ("table", "json", "jsonl", "github", "markdown", "junit", "sarif")


def saved(folder: Path, name: str, steps: int = 1) -> list[str]:
    """Checkpoints of a net that vanishes, in files, a folder and a module with this name."""
    torch.manual_seed(0)
    state = nn.ModuleDict({"rnn": nn.RNN(2, 4, num_layers=2)}).state_dict()
    state = {key.replace("rnn", name.replace(".", "_")): tensor for key, tensor in state.items()}
    within = folder / name
    within.mkdir()
    paths = [within / f"{name}{step}.pt" for step in range(steps)]
    for step, path in enumerate(paths):
        torch.save({key: 0.01 * (1 + step / 10) * tensor for key, tensor in state.items()}, path)
    return [str(path) for path in paths]


@pytest.fixture(params=NAMES, ids=ascii)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(20 + 7 * (len(request.node.name) % 12)))


def safe(done: Done, *codes: int, commands: bool = False, keep: str = "\n") -> Done:
    assert done.code in codes, done
    assert_safe(done.out, keep, commands=commands)
    assert_safe(done.err)
    return done


def test_check_and_inspect_in_every_format(cli: Cli, tmp_path: Path, name: str) -> None:
    (path,) = saved(tmp_path, name)
    for command, codes in (("check", (1,)), ("inspect", (0,))):
        for format_ in FORMATS if command == "check" else ("table",):
            keep = "\n\t" if format_ in ("junit", "github") else "\n"
            arguments = (command, path, *QUICK, "--no-treat", "--format", format_)
            done = safe(cli(*arguments), *codes, commands=format_ == "github", keep=keep)
            if format_ == "json":
                assert json.loads(done.out)["source"]["path"] == path
            if format_ == "junit":
                ElementTree.fromstring(done.out)
    safe(cli("check", path, f"{path}x", *QUICK, "--no-treat", "--verbose"), 2)


def test_trend_compare_and_prescribe(cli: Cli, tmp_path: Path, name: str) -> None:
    paths = saved(tmp_path, name, steps=3)
    for format_ in ("table", "json", "csv", "markdown"):
        done = safe(cli("trend", *paths, *QUICK, "--order", "given", "--format", format_), 0)
        if format_ == "csv":
            for row in csv.reader(done.out.splitlines()):
                assert not [cell for cell in row if cell.startswith(FORMULA_STARTS) and not is_number(cell)]
    for format_ in ("table", "json"):
        safe(cli("compare", *paths[:2], *QUICK, "--format", format_), 0)
    for format_ in ("table", "json"):
        safe(cli("prescribe", paths[0], *QUICK, "--treatment", "nearest*", "--format", format_), 0)


def test_reports_of_other_people(cli: Cli, tmp_path: Path, name: str) -> None:
    (path,) = saved(tmp_path, "plain")
    kept, results, cache = tmp_path / "kept.json", tmp_path / "out.jsonl", tmp_path / "cache"
    arguments = ("check", path, *QUICK, "--no-treat")
    assert cli(*arguments, "--write-baseline", kept, "--cache", cache, "--format", f"jsonl={results}").code == 1
    (entry,) = cache.rglob("*.json")
    for file in (kept, results, entry):  # every text that names something, as somebody else might have written it
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file == results else None
        document = lines or json.loads(file.read_text())
        text = json.dumps(renamed(document, name))
        file.write_text(text[1:-1] + "\n" if lines else text)
    safe(cli("compare", kept, kept), 0, 1)
    safe(cli("compare", kept, path, *QUICK), 2)
    safe(cli(*arguments, "--baseline", kept), 2)
    for format_ in FORMATS[:1] + FORMATS[3:]:
        keep, commands = ("\n\t" if format_ in ("junit", "github") else "\n"), format_ == "github"
        safe(cli(*arguments, "--cache", cache, "--format", format_), 0, 1, 2, keep=keep, commands=commands)
        if format_ != "table":
            streams = ("--format", f"jsonl={results}", "--format", format_, "--resume")
            safe(cli(*arguments, *streams), 0, 1, 2, keep=keep, commands=commands)


def renamed(value: object, name: str, key: str = "") -> object:
    """A report in which every name and every text is replaced by ``name``."""
    if isinstance(value, dict):
        return {each: renamed(item, name, each) for each, item in value.items()}
    if isinstance(value, list):  # layers and stacks have distinct names
        return [renamed(item, f"{name}{index or ''}", key) for index, item in enumerate(value)]
    keys = ("name", "message", "cause", "action", "summary", "layer", "layers", "notes", "reason", "device")
    return name if isinstance(value, str) and key in keys else value


def test_a_failed_assertion_is_safe_to_print(tmp_path: Path, name: str) -> None:
    (path,) = saved(tmp_path, name)
    with pytest.raises(AssertionError) as caught:
        assert_healthy(path, length=8, batch=2, settings=Settings(exponents=1, treat=False))
    assert_safe(str(caught.value))


OPTIONS = (
    "--T", "--probe", "--scale", "--layer", "--map", "--exponents", "--dtype", "--device", "--config", "--select",
    "--ignore", "--fail-on", "--format", "--output", "--scheduler", "--cache", "--baseline", "--write-baseline",
    "--import",
)  # fmt: skip

VALUES = ["".join(EXAMPLES), "x" * 100_000, "x y " * 25_000, "\x1b" * 50_000]


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_reported_in_lines_of_limited_length(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where some of these names can be written
    (path,) = saved(tmp_path, "plain")
    for value in VALUES:
        done = safe(cli("check", path, *QUICK, "--no-treat", option, value), 0, 1, 2)
        assert all(len(line) <= MAX_MESSAGE + 80 for line in done.err.splitlines())


@pytest.mark.parametrize("value", VALUES, ids=["examples", "a word", "words", "invisible"])
def test_arguments_are_reported_on_one_line_of_limited_length(cli: Cli, value: str) -> None:
    for done in (cli("inspect", value), cli("check", value + "*"), cli(value), cli("explain", value)):
        safe(done, 2)
        assert len(done.err) <= MAX_MESSAGE + 80


def test_the_configuration_is_shown(cli: Cli, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    text = json.dumps({"paths": [name], "layers": {name: {"rules": {"SAT001": {"rate": 0.9}}}}})  # JSON is YAML
    if not any("\ud800" <= each <= "\udfff" for each in name):
        (folder / "rnndiag.yaml").write_text(text)
        monkeypatch.chdir(folder)
        safe(cli("check", "--show-config"), 0)
    (folder / "broken.yaml").write_text("length: x\n")
    safe(cli("check", "--show-config", "--config", folder / "broken.yaml"), 2)


def test_a_process_filters_what_others_print(tmp_path: Path) -> None:
    """Stderr as a whole: warnings of libraries, log records, tracebacks."""
    (tmp_path / "own.py").write_text(
        "import logging, warnings\n"
        "def make():\n"
        "    warnings.warn('::error::X \\x1b[31m')\n"
        "    logging.getLogger('other').error('##[error]X\\x9b')\n"
        "    raise ValueError('\\x1b]0;title\\x07\\n::error::X')\n"
    )
    script = "from rnndiag.cli.streams import protect; protect(); import own; own.make()"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})  # fmt: skip
    assert "ValueError" in done.stderr
    assert "X" in done.stderr
    assert_safe(done.stderr, "\n\t")


def test_own_code_may_draw_its_own_bars(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import sys\nfrom torch import nn\n"
        "def make():\n    print('\\r50 %', end='')\n"
        "    print('\\x1b[31mred', file=sys.stderr)\n    return nn.GRU(2, 3)\n"
    )
    arguments = ("check", "--import", "own:make", *QUICK, "--no-treat", "--fail-on", "never")
    done = subprocess.run([sys.executable, "-m", "rnndiag", *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"\r50 %" in done.stderr
    assert b"\x1b[31mred" in done.stderr
    assert b"50 %" not in done.stdout
