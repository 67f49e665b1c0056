"""Files and streams: nothing lost, nothing overwritten by mistake, no bug called on bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from tests.builders.command_line import Cli, Done
from tests.builders.processes import END_SECONDS, running, shell, until

QUICK = ("--T", "12", "--batch", "3")


def refused(done: Done) -> str:
    assert done.code == 2
    (line,) = done.err.splitlines()
    return line


def test_an_output_never_overwrites_an_input(cli: Cli, saved: Path, tmp_path: Path) -> None:
    before = saved.read_bytes()
    link = tmp_path / "link.pt"
    link.symlink_to(saved)
    for output in (saved, link):
        for command in ("inspect", "check"):
            assert "is one of the inputs" in refused(cli(command, saved, *QUICK, "-o", output))
    assert "is one of the inputs" in refused(cli("compare", saved, saved, *QUICK, "-o", saved))
    both = tmp_path / "both.pt"
    assert "cannot hold both" in refused(cli("simulate", *QUICK, "--save", both, "-o", both))
    assert saved.read_bytes() == before
    assert not both.exists()


def test_links_are_followed_and_pipes_written_to(cli: Cli, saved: Path, tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "pipe"
    target.touch()
    link.symlink_to(target)
    assert cli("inspect", saved, *QUICK, "--format", f"json={link}").code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text(encoding="utf-8"))["verdict"]
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    assert cli("inspect", saved, *QUICK, "--format", f"json={pipe}").code == 0
    reader.join(10)
    assert json.loads(received[0])["verdict"]
    assert pipe.is_fifo()
    assert cli("inspect", saved, *QUICK, "-o", "/dev/null").code == 0
    assert not Path("/dev/null").is_file()


def test_several_paths_give_an_array_whatever_becomes_of_them(cli: Cli, saved: Path) -> None:
    done = cli("inspect", saved, saved.with_name("missing.pt"), *QUICK, "--format", "json")
    assert done.code == 2
    assert len(json.loads(done.out)) == 1
    assert isinstance(json.loads(cli("inspect", saved, saved, *QUICK, "--format", "json").out), list)
    assert isinstance(json.loads(cli("inspect", saved, *QUICK, "--format", "json").out), dict)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inspect", ""), "an empty PATH"),
        (("inspect", "x" * 300), "cannot be read"),
        (("simulate", "-o", "y" * 300), "File name too long"),
        (("simulate", "--device", "meta"), "--device meta: not available here"),
        (("simulate", "--T", "1000000000000"), "would take about"),
        (("simulate", "--batch", "100000000000"), "would take about"),
        (("simulate", "--cell", "lstm", "--forget-bias", "nan"), "--forget-bias: expected a finite number"),
        (("simulate", "--sigma", "1e50", "--dtype", "float32"), "weights overflow float32"),
    ],
)
def test_bad_input_is_no_bug(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(cli(*arguments))


def test_any_seed_will_do(cli: Cli) -> None:
    assert cli("simulate", *QUICK, "--hidden", "4", "--seed", str(2**64)).code == 0


@pytest.mark.parametrize("name", ["enc[/b]", "enc[red]", "[link=x]y", ":smile:", "x" * 90])
def test_names_from_a_file_are_shown_as_they_are(cli: Cli, tmp_path: Path, name: str) -> None:
    torch.save({f"{name}.{key}": value for key, value in nn.RNN(2, 3).state_dict().items()}, tmp_path / "m.pt")
    for command in ("inspect", "check"):
        done = cli(command, tmp_path / "m.pt", *QUICK)
        assert done.code in (0, 1)
        assert name in "".join(done.out.split()) or len(name) > 20 or command == "check"
    (tmp_path / "m.pt").rename(tmp_path / f"{name[:9].replace('/', '')}.pt")
    assert cli("inspect", tmp_path / f"{name[:9].replace('/', '')}.pt", *QUICK).code == 0


def test_streams_that_are_closed_or_full(saved: Path) -> None:
    assert (shell("rnndiag --help | head -1").returncode, shell("rnndiag rules | true").returncode) == (0, 0)
    assert shell(f"rnndiag inspect {saved} --T 12 >&-").returncode == 0
    full = shell(f"rnndiag inspect {saved} --T 12 --format json >/dev/full")
    assert full.returncode == 2
    assert "could not be written" in full.stderr


def test_interrupted_with_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = ("-m", "rnndiag", "simulate", "--hidden", "400", "--T", "20000", "--format", f"json={out}")
    with running(*command) as process:
        until(lambda: psutil.Process(process.pid).cpu_times().user > 4)  # it measures
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130
    assert re.fullmatch(r"(rnndiag: rnn: about .*\n)?", err)  # how long it would have taken
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_one_line_and_a_traceback_if_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("rnndiag.api.simulate", broken)
    done = cli("simulate")
    assert (done.code, done.out) == (3, "")
    (line,) = done.err.splitlines()
    assert "a bug in rnndiag: ZeroDivisionError: of ours" in line
    loud = cli("simulate", "-v")
    assert loud.code == 3
    assert "Traceback" in loud.err
