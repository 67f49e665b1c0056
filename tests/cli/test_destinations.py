"""Which files may be written, with real files: models of every format, every kind of input, links and streams."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from tests.builders.command_line import Cli
from tests.builders.fleets import save
from tests.builders.onnx_files import graph, model, operator, weights
from tests.builders.processes import shell

QUICK = ("--T", "12", "--batch", "3", "--exponents", "1")
SMALL = ("--hidden", "4", "--input-size", "2", *QUICK)
with torch.random.fork_rng():
    torch.manual_seed(0)
    STATE = nn.RNN(2, 4).state_dict()
INPUT = "is one of the inputs, and would be overwritten; name another file"


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models, a probe and a config file, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.pt", 0)
    save(tmp_path / "b.pt", 1)
    np.save("p.npy", np.zeros((1, 12, 2), np.float32) + 0.1)
    Path("rnndiag.yaml").write_text("seed: 0\n", encoding="utf-8")
    return tmp_path


# A model of every format as a target


def onnx_with_data(path: Path) -> None:
    """An LSTM whose weights lie in m.data."""
    whole = model(graph([operator()], weights("LSTM")))
    onnx.save(whole, path, save_as_external_data=True, location="m.data", size_threshold=0)


def write_file(kind: str, path: Path) -> None:
    if kind == "torch":
        torch.save(STATE, path)
    elif kind == "legacy":
        torch.save(STATE, path, _use_new_zipfile_serialization=False)
    elif kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch deprecates the format
            torch.jit.save(torch.jit.script(nn.RNN(2, 4)), path)
    elif kind == "safetensors":
        save_file(STATE, path)
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **{name: tensor.numpy() for name, tensor in STATE.items()})
    else:
        path.write_bytes(b"notes that are worth more than a report\n")


COMMANDS = {
    "inspect -o": ["inspect", "a.pt", *QUICK, "-o", "{}"],
    "inspect json": ["inspect", "a.pt", *QUICK, "--format", "json={}"],
    "inspect jsonl": ["inspect", "a.pt", *QUICK, "--format", "jsonl={}"],
    "check baseline": ["check", "a.pt", *QUICK, "--write-baseline", "{}"],
    "compare": ["compare", "a.pt", "b.pt", *QUICK, "--output", "{}"],
    "trend": ["trend", "a.pt", "b.pt", "--order", "given", *QUICK, "--format", "csv={}"],
    "sweep": ["sweep", "--sigma", "1,2", "--nets", "1", *SMALL[:-2], "--format", "csv={}"],
    "sweep resume": ["sweep", "--sigma", "1,2", "--nets", "1", *SMALL[:-2], "--resume", "{}"],
    "simulate": ["simulate", *SMALL, "-o", "{}"],
    "simulate save": ["simulate", *SMALL, "--save", "{}"],
    "prescribe": ["prescribe", "a.pt", *QUICK, "--output", "{}"],
    "prescribe save": ["prescribe", "a.pt", *QUICK, "--save", "{}"],
    "prescribe -o": ["prescribe", "a.pt", *QUICK, "-o", "{}"],
    "inspect resume": ["inspect", "a.pt", *QUICK, "--format", "jsonl={}", "--resume"],
}


@pytest.mark.parametrize(
    ("kind", "link"),
    [*((kind, "") for kind in ("torch", "legacy", "torchscript", "safetensors", "npz", "notes")),
     ("torch", "soft"), ("torch", "hard")],
)  # fmt: skip
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_file_that_is_not_a_report_is_left_alone(
    cli: Cli, here: Path, command: list[str], kind: str, link: str
) -> None:
    target = Path("precious.out")
    write_file(kind, target)
    if link == "soft":
        Path("link").symlink_to(target)
    elif link == "hard":
        Path("link").hardlink_to(target)
    before = contents(here)
    done = cli(*(each.format("link" if link else target) for each in command))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "name another" in done.err
    assert contents(here) == before


def test_force_replaces_a_file_that_is_not_read(cli: Cli, here: Path) -> None:
    for command in (COMMANDS["inspect -o"], COMMANDS["trend"], COMMANDS["simulate save"]):
        write_file("notes", here / "old")
        assert cli(*(each.format("old") for each in command), "--force").code == 0
        assert not (here / "old").read_bytes().startswith(b"notes")


def test_an_empty_file_is_no_loss(cli: Cli, here: Path) -> None:
    (here / "out.txt").touch()
    assert cli("inspect", "a.pt", *QUICK, "-o", "out.txt").code == 0


# Inputs of every kind, also with --force


INPUTS = (
    ("a.pt", ""),
    ("p.npy", ""),
    ("rnndiag.yaml", ""),
    ("a.pt", "hard"),
    ("p.npy", "soft"),
    ("rnndiag.yaml", "hard"),
)


@pytest.mark.parametrize(
    ("name", "file", "link"),
    [
        (name, file, link)
        for name, command in COMMANDS.items()
        for file, link in INPUTS
        if "--resume" not in command and (file != "a.pt" or file in command)  # some commands read no model
    ],
)
def test_no_input_is_overwritten(cli: Cli, here: Path, name: str, file: str, link: str) -> None:
    if link == "soft":
        Path("link").symlink_to(file)
    elif link == "hard":
        Path("link").hardlink_to(file)
    before = contents(here)
    done = cli(*(each.format("link" if link else file) for each in COMMANDS[name]), "--probe", "p.npy", "--force")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert INPUT in done.err or "is the model itself, which is never overwritten" in done.err
    assert contents(here) == before


def test_the_probe_of_a_config_file_lies_next_to_it(cli: Cli, here: Path) -> None:
    (here / "sub").mkdir()
    (here / "rnndiag.yaml").write_text("probe: p.npy\n", encoding="utf-8")
    os.chdir(here / "sub")
    before = contents(here)
    done = cli("inspect", "../a.pt", "--exponents", "1", "-o", "../p.npy", "--force")
    assert (done.code, INPUT in done.err) == (2, True)
    assert contents(here) == before


def test_a_file_named_like_a_generated_probe_is_not_read(cli: Cli, here: Path) -> None:
    for _ in range(2):
        assert cli("inspect", "a.pt", *QUICK, "--probe", "noise", "-o", "noise").code == 0


@pytest.mark.parametrize("name", ["other.yaml", "pyproject.toml"])
def test_a_named_config_file_is_an_input(cli: Cli, here: Path, name: str) -> None:
    text = "[tool.rnndiag]\nseed = 1\n" if name.endswith("toml") else "seed: 1\n"
    (here / name).write_text(text, encoding="utf-8")
    for command in (["compare", "a.pt", "b.pt"], ["prescribe", "a.pt"], ["simulate"], ["sweep"]):
        done = cli(*command, "--config", name, "--output", name, "--force")
        assert (done.code, INPUT in done.err) == (2, True)
    assert (here / name).read_text(encoding="utf-8") == text


def test_the_module_of_import_is_an_input(cli: Cli, here: Path) -> None:
    text = "from torch import nn\ndef make():\n    return nn.RNN(2, 4)\n"
    (here / "of_mine.py").write_text(text, encoding="utf-8")
    done = cli("inspect", "--import", "of_mine:make", *QUICK, "-o", "of_mine.py", "--force")
    assert (done.code, INPUT in done.err) == (2, True)
    assert (here / "of_mine.py").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("url", ["file://{}", "local://{}", "simplecache::file://{}"])
def test_a_model_by_url_is_an_input(cli: Cli, here: Path, url: str) -> None:
    before = contents(here)
    for command in (["inspect"], ["prescribe"], ["check"]):
        done = cli(*command, url.format(here / "a.pt"), *QUICK, "--output", "a.pt", "--force")
        assert (done.code, INPUT in done.err) == (2, True)
    assert contents(here) == before


def test_a_model_on_stdin_is_an_input(here: Path) -> None:
    before = contents(here)
    done = shell("rnndiag inspect - --T 12 -o a.pt --force < a.pt", here)
    assert (done.returncode, INPUT in done.stderr) == (2, True)
    assert contents(here) == before
    assert shell("cat a.pt | rnndiag inspect - --T 12 -o r.txt", here).returncode == 0


def sharded(folder: Path) -> list[Path]:
    """A model of two shards; its index, and the shards."""
    names = list(STATE)
    for number, part in enumerate((names[:2], names[2:]), 1):
        save_file({name: STATE[name] for name in part}, folder / f"model-0000{number}-of-00002.safetensors")
    index = {name: f"model-0000{1 if name in names[:2] else 2}-of-00002.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    return sorted(folder.glob("model*"), reverse=True)


@pytest.mark.parametrize("link", ["", "soft", "hard"])
@pytest.mark.parametrize("whole", [False, True], ids=["index", "folder"])
def test_a_shard_is_a_part_of_its_model(cli: Cli, here: Path, whole: bool, link: str) -> None:
    folder = here / "hub"
    folder.mkdir()
    index, *shards = sharded(folder)
    target = shards[0]
    if link:
        target = here / "link.bin"
        (target.symlink_to if link == "soft" else target.hardlink_to)(shards[0])
    before = contents(here)
    named = folder if whole else index
    assert cli("inspect", named, *QUICK).code == 0
    for command in (["inspect", named], ["prescribe", named], ["compare", named, "a.pt"]):
        for option in ("--output", "--save") if command[0] == "prescribe" else ("--output",):
            done = cli(*command, *QUICK, option, target, "--force")
            assert (done.code, INPUT in done.err, done.err.count("\n")) == (2, True, 1)
    assert contents(here) == before


def test_the_files_of_a_distributed_checkpoint_are_parts(cli: Cli, here: Path) -> None:
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.save(STATE, checkpoint_id=here / "spread")
    before = contents(here)
    for part in (here / "spread").iterdir():
        done = cli("check", "spread", *QUICK, "-o", part, "--force")
        assert (done.code, INPUT in done.err) == (2, True)
    assert contents(here) == before


@pytest.mark.parametrize("link", ["", "soft", "hard"])
def test_the_external_data_of_an_onnx_model_are_parts(cli: Cli, here: Path, link: str) -> None:
    onnx_with_data(here / "m.onnx")
    target = here / "m.data"
    if link:
        target = here / "link.bin"
        (target.symlink_to if link == "soft" else target.hardlink_to)("m.data")
    before = contents(here)
    assert cli("inspect", "m.onnx", *QUICK).code == 0
    done = cli("inspect", "m.onnx", *QUICK, "-o", target, "--force")
    assert (done.code, INPUT in done.err) == (2, True)
    assert contents(here) == before


def test_a_checkpoint_as_baseline_is_an_input_and_a_report_is_written_again(cli: Cli, here: Path) -> None:
    before = contents(here)
    for force in ([], ["--force"]):
        done = cli("check", "b.pt", *QUICK, "--baseline", "a.pt", "--write-baseline", "a.pt", *force)
        assert (done.code, INPUT in done.err) == (2, True)
    assert contents(here) == before
    assert cli("check", "b.pt", *QUICK, "--fail-on", "never", "--write-baseline", "k.json").code == 0
    Path("k.json").write_text(json.dumps(json.loads(Path("k.json").read_text()), sort_keys=True), encoding="utf-8")
    Path("link.json").symlink_to("k.json")
    done = cli("check", "b.pt", *QUICK, "--baseline", "k.json", "--write-baseline", "link.json")
    assert (done.code, done.err) == (0, "rnndiag: wrote link.json\n")
    done = cli("check", "b.pt", *QUICK, "--baseline", "k.json", "--format", "json=link.json", "--force")
    assert (done.code, INPUT in done.err) == (2, True)


# Two outputs in one file


@pytest.mark.parametrize("link", ["soft", "hard", "dangling"])
def test_two_outputs_do_not_share_a_file_through_a_link(cli: Cli, here: Path, link: str) -> None:
    if link != "dangling":
        Path("one").touch()
    (Path("two").hardlink_to if link == "hard" else Path("two").symlink_to)("one")
    pairs = (
        ["inspect", "a.pt", "--format", "json=one", "--format", "junit=two"],
        ["check", "a.pt", "--format", "json=one", "--write-baseline", "two"],
        ["prescribe", "a.pt", "--output", "one", "--save", "two"],
        ["simulate", "--output", "one", "--save", "two"],
        ["sweep", "--sigma", "1", "--output", "one", "--resume", "two"],
    )
    for command in pairs:
        done = cli(*command, "--force")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "two formats for two" in done.err or "name two different files" in done.err


# One meaning of -o


def test_a_report_named_like_a_model_is_asked_about(cli: Cli, here: Path) -> None:
    for command in (["prescribe", "a.pt", *QUICK], ["simulate", *SMALL]):
        done = cli(*command, "--output", "fixed.pt")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "write the model with --save fixed.pt, or write the report there anyway with --force" in done.err
        assert not Path("fixed.pt").exists()
    done = cli("prescribe", "a.pt", *QUICK, "--output", "b.pt")
    assert "b.pt: exists and is a model (torch), not a report of rnndiag" in done.err
    assert "(--save FILE writes the model)" in done.err


def test_prescribe_o_is_a_deprecated_save(cli: Cli, here: Path) -> None:
    torch.save({name: tensor * 3 for name, tensor in STATE.items()}, "chaotic.pt")
    command = ("prescribe", "chaotic.pt", *QUICK, "--take", "nearest-orthogonal", "--treatment", "nearest-orthogonal")
    old = cli(*command, "-o", "old.pt")
    new = cli(*command, "--save", "new.pt")
    assert (old.code, new.code) == (0, 0)
    assert Path("old.pt").read_bytes() == Path("new.pt").read_bytes()
    assert new.err == "rnndiag: wrote new.pt: the model under nearest-orthogonal\n"
    wrote, warning = old.err.splitlines()
    assert wrote == "rnndiag: wrote old.pt: the model under nearest-orthogonal"
    assert warning.startswith("rnndiag: warning: -o is a deprecated name of --save")
    done = cli(*command, "-o", "x.pt", "--save", "y.pt")
    assert (done.code, "leave out -o" in done.err) == (2, True)


# What is printed, and what is said of files


@pytest.mark.parametrize(
    "options",
    ["--format junit=r", "--format junit=r --format sarif=s", "-o r", "-q -o r", "--format jsonl=r", "--format table=r",
     "--format json=r --output t"],
)  # fmt: skip
def test_a_gate_that_fails_says_why_on_stdout(cli: Cli, here: Path, options: str) -> None:
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in STATE.items()}
    torch.save(broken, here / "bad.pt")
    done = cli("check", "bad.pt", *QUICK, *options.split())
    assert done.code == 1
    assert "error NUM001" in done.out
    assert "Checked 1 model: 1 error" in done.out
    files = [word.partition("=")[2] or word for word in options.split() if word.partition("=")[2] or len(word) == 1]
    expected = [] if "-q" in options else [f"rnndiag: wrote {name}" for name in files]
    assert done.err.splitlines() == expected


def test_the_text_stays_on_stdout_unless_a_format_goes_there(cli: Cli, here: Path) -> None:
    text = cli("inspect", "a.pt", *QUICK).out
    assert cli("inspect", "a.pt", *QUICK, "--format", "json=r.json").out == text
    assert json.loads(cli("inspect", "a.pt", *QUICK, "--format", "json", "--format", "junit=r.xml").out)
    assert cli("inspect", "a.pt", *QUICK, "-o", "r.txt").out == ""
    assert cli("inspect", "a.pt", *QUICK, "--format", "json=r.json", "-o", "r.txt").out == ""
    assert "Verdict" in Path("r.txt").read_text(encoding="utf-8")
    done = cli("sweep", "--sigma", "1,2", "--nets", "1", *SMALL[:-2], "--format", "csv=r.csv", "--resume", "r.log")
    assert ("Points" in done.out, done.err) == (True, "rnndiag: wrote r.csv\nrnndiag: wrote r.log\n")
    done = cli("sweep", "--sigma", "1,2", "--nets", "1", *SMALL[:-2], "--resume", "r.log")
    assert done.err == ""  # nothing was left to measure
    done = cli("inspect", "a.pt", "--format", "json=")
    assert (done.code, "expected a file name after =" in done.err) == (2, True)


def test_the_short_text_has_an_end(cli: Cli, here: Path) -> None:
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in STATE.items()}
    (here / "many").mkdir()
    for i in range(23):
        torch.save(broken, here / "many" / f"{i:02}.pt")
    done = cli("check", "many", *QUICK, "-o", "r.txt")
    assert done.out.count("error NUM001") == 20
    assert "3 more models with such findings\nChecked 23 models: 23 errors" in done.out


def test_a_file_that_cannot_be_written_costs_nothing_else(cli: Cli, here: Path) -> None:
    done = cli("check", "a.pt", *QUICK, "--format", "json=/dev/full", "--format", "junit=r.xml")
    assert done.code == 2
    assert "/dev/full: could not be written" in done.err
    assert done.out.count("at lag 12") == 1
    assert (here / "r.xml").exists()


@pytest.mark.parametrize("options", ["--format json --output /dev/stdout", "--format json=/dev/fd/1"])
def test_descriptors_are_written_to_as_they_are(here: Path, options: str) -> None:
    whole = shell(f"rnndiag check a.pt --T 12 --fail-on never {options}", here)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert json.loads(whole.stdout)["verdict"]
    (here / "log").write_text("begin\n", encoding="utf-8")
    assert shell(f"rnndiag check a.pt --T 12 --fail-on never {options} >> log", here).returncode == 0
    assert (here / "log").read_text(encoding="utf-8") == "begin\n" + whole.stdout


def test_lines_are_appended_to_a_descriptor(here: Path) -> None:
    (here / "log").write_text("begin\n", encoding="utf-8")
    assert (
        shell("rnndiag check a.pt b.pt --T 12 --fail-on never --format jsonl=/dev/stdout >> log", here).returncode == 0
    )
    begins = [line[:9] for line in (here / "log").read_text(encoding="utf-8").splitlines()]
    assert begins == ["begin", '{"path": ', '{"path": ']


TABLES = {
    "inspect": ["inspect", "a.pt", *QUICK],
    "check": ["check", "a.pt", *QUICK, "--fail-on", "never"],
    "compare": ["compare", "a.pt", "b.pt", *QUICK, "--fail-on", "never"],
    "trend": ["trend", "a.pt", "b.pt", "--order", "given", *QUICK, "--fail-on", "never"],
    "sweep": ["sweep", "--sigma", "1,2", "--nets", "1", *SMALL[:-2]],
    "simulate": ["simulate", *SMALL],
    "prescribe": ["prescribe", "a.pt", *QUICK],
}


@pytest.mark.parametrize("name", TABLES)
def test_files_are_plain_and_of_one_width(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def table(**environment: str) -> bytes:
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            assert cli(*TABLES[name], "--format", "table=out.txt").code == 0
        return (here / "out.txt").read_bytes()

    plain = table(COLUMNS="", FORCE_COLOR="")
    assert b"\x1b" not in plain
    assert table(FORCE_COLOR="1") == plain
    assert table(TTY_COMPATIBLE="1", COLORTERM="truecolor") == plain
    assert table(COLUMNS="60", LINES="5") == plain


def test_the_environment_decides_the_colors_of_a_stream_and_not_of_a_file(here: Path) -> None:
    done = shell("rnndiag check a.pt --T 12 --format table=out.txt", here, FORCE_COLOR="1")
    assert "\x1b[" in done.stdout
    assert b"\x1b" not in (here / "out.txt").read_bytes()
