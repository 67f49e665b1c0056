"""Whole runs of fleets: interrupts, processes that are killed, a cluster; the serial run is the oracle."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import termios
import time
from pathlib import Path

import psutil
import pytest

from tests.builders.command_line import Cli, bare, lines
from tests.builders.fleets import save
from tests.builders.processes import END_SECONDS, assert_all_end, children, running, until

RUN_SECONDS = 400
"""The wait for the end of a run, which takes 40 s on an idle machine."""


def held(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def test_an_interrupt_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"m{i:02}.pt", i, hidden=48) for i in range(24)]
    out = tmp_path / "out.jsonl"
    options = ("--T", "100", "--no-treat", "--format", f"jsonl={out}", "--workers", "2")
    with running("-m", "rnndiag", "inspect", *paths, *options) as process:
        until(lambda: held(out) >= 2)
        below = children(process, "")
        assert len(below) >= 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said, complaint = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, said, complaint) == (130, "", "")
    assert_all_end(below)
    before = lines(out.read_text(encoding="utf-8"))
    assert 2 <= len(before) < 24
    with running("-m", "rnndiag", "inspect", *paths, *options, "--resume") as process:
        said, complaint = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, said.splitlines()[-1][:19], complaint) == (
        0,
        "Measured 24 models:",
        f"rnndiag: wrote {out}\n",
    )
    after = lines(out.read_text(encoding="utf-8"))
    assert after[: len(before)] == before
    assert sorted(line["path"] for line in after) == paths


def test_no_process_outlives_one_that_is_killed(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"m{i}.pt", i, hidden=48) for i in range(8)]
    out = tmp_path / "out.jsonl"
    with running(
        "-m", "rnndiag", "inspect", *paths, "--T", "400", "--no-treat", "--format", f"jsonl={out}", "--workers", "2"
    ) as run:
        until(lambda: held(out))
        below = children(run, "")
        run.kill()
        assert_all_end(below)


def test_a_cluster_of_which_a_worker_is_killed(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    paths = [save(folder / f"m{i:02}.pt", i, hidden=48) for i in range(24)] + [str(folder / "none.pt")]
    Path(paths[-1]).write_text("no model", encoding="utf-8")
    told = tmp_path / "scheduler.json"
    common = ("--no-dashboard", "--scheduler-file", told)
    out = tmp_path / "out.jsonl"
    serve = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", 0, *common)
    work = ("-m", "distributed.cli.dask_worker", "--nthreads", 1, "--no-nanny", *common, "--local-directory", tmp_path)
    with running(*serve), running(*work) as first, running(*work):
        address = json.loads(until(lambda: told.exists() and told.read_text(encoding="utf-8")))["address"]
        options = ("--T", "100", "--no-treat", "--format", f"jsonl={out}", "--scheduler", address)
        with running("-m", "rnndiag", "inspect", folder, *options) as process:
            until(lambda: held(out) >= 2)
            first.send_signal(signal.SIGKILL)
            said, complaint = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, said.splitlines()[-1][:19]) == (2, "Measured 24 models:")
    line, wrote = complaint.splitlines()
    assert wrote == f"rnndiag: wrote {out}"
    assert line.startswith(f"rnndiag: error: {paths[-1]}: ")
    results = {line["path"]: line for line in lines(out.read_text(encoding="utf-8"))}
    assert held(out) == len(results) == len(paths)
    serial = cli("inspect", *paths[:3], "--T", "100", "--no-treat", "--format", "json")
    assert [bare(results[path]) for path in paths[:3]] == json.loads(serial.out)


def waits(process: psutil.Process) -> bool:
    """Whether a process and its children have nothing to do: each time they are looked at, all of them sleep."""
    for _ in range(20):
        if any(each.status() != psutil.STATUS_SLEEPING for each in (process, *process.children(recursive=True))):
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_while_a_line_is_written_loses_nothing_that_is_finished(tmp_path: Path, workers: int) -> None:
    """Nobody reads the pipe: the command is interrupted with a line in hand and others finished behind it."""
    paths = [save(tmp_path / f"m{i:02}.pt", i) for i in range(60)]
    options = ("--T", "20", "--no-treat", "--exponents", "2", "--format", "jsonl", "--workers", str(workers))
    with running("-m", "rnndiag", "inspect", *paths, *options) as process:
        assert process.stdout is not None

        def unread() -> int:
            return int(struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"    "))[0])  # type: ignore[arg-type]

        # A full pipe can hold less than its capacity: a line that does not fit into the last page begins a new one.
        until(lambda: unread() > 0 and waits(psutil.Process(process.pid)))
        full = unread()
        os.killpg(process.pid, signal.SIGINT)
        said, complaint = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, complaint) == (130, "")
    assert said.endswith("\n")
    whole = lines(said)
    in_the_pipe = said[:full].count("\n")
    assert len({line["path"] for line in whole}) == len(whole) < len(paths)
    assert len(whole) >= in_the_pipe + 1  # with the one in hand, and what processes beside had finished


def test_a_second_interrupt_is_heeded_at_once(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"m{i:02}.pt", i) for i in range(60)]
    with running("-m", "rnndiag", "inspect", *paths, "--T", "20", "--no-treat", "--format", "jsonl") as process:
        until(lambda: waits(psutil.Process(process.pid)))
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.5)
        assert until(lambda: process.poll(), END_SECONDS) == 130


def test_the_last_model_that_is_left_does_not_take_the_command_down(tmp_path: Path) -> None:
    """A model that kills its process, with a file to go on with in which it alone is missing."""
    deadly, out = save(tmp_path / "deadly.pt", 0, hidden=256), tmp_path / "out.jsonl"
    sound = [save(tmp_path / f"m{i}.pt", i) for i in range(2)]
    long = ("--T", "12000", "--batch", "4", "--no-treat", "--exponents", "2")
    options = (*long, "--format", f"jsonl={out}", "--workers", "2")
    with running("-m", "rnndiag", "inspect", *sound, *options) as process:
        process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, held(out)) == (0, 2)
    with running("-m", "rnndiag", "inspect", *sound, deadly, *options, "--resume") as process:
        for _ in range(2):  # it is tried twice
            worker = until(lambda: children(process, "spawn_main"))[0]
            until(lambda worker=worker: worker.cpu_times().user > 3)
            worker.kill()
            until(lambda worker=worker: not worker.is_running())
        said, complaint = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, said.splitlines()[-1][:18]) == (3, "Measured 2 models:")
    assert len(complaint.splitlines()) == 2
    assert f"{deadly}: its process died, twice" in complaint
    assert held(out) == 3


def test_a_scheduler_without_rnndiag_is_told_of_in_a_line(tmp_path: Path) -> None:
    """Its interpreter imports everything else; its worker has rnndiag."""
    told, model = tmp_path / "scheduler.json", save(tmp_path / "m.pt", 0)
    common = ("--no-dashboard", "--scheduler-file", told)
    code = (
        "import sys; sys.modules['rnndiag'] = None; from distributed.cli.dask_scheduler import main; main(sys.argv[1:])"
    )
    serve = ("-c", code, "--host", "127.0.0.1", "--port", 0, *common)
    work = ("-m", "distributed.cli.dask_worker", "--nthreads", 1, "--no-nanny", *common, "--local-directory", tmp_path)
    with running(*serve), running(*work):
        address = json.loads(until(lambda: told.exists() and told.read_text(encoding="utf-8")))["address"]
        with running("-m", "rnndiag", "inspect", model, "--T", "12", "--scheduler", address) as process:
            said, complaint = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, said) == (2, "")
    (line,) = complaint.splitlines()
    assert f"--scheduler {address}: it or its workers lack rnndiag" in line
