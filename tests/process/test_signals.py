"""A command that gets a signal ends within seconds, prints no traceback, and leaves no file and no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from rnndiag.fleet.processes import processes
from tests.builders.fleets import save
from tests.builders.processes import END_SECONDS, START_SECONDS, assert_all_end, children, running, until

WORKER, PARSER = "spawn_main", "rnndiag.parsers.worker"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def signals(*numbers: signal.Signals) -> pytest.MarkDecorator:
    """Run a test with some signals. SIGTERM and SIGHUP have the same handler, so one of the two is enough."""
    return pytest.mark.parametrize("number", numbers, ids=lambda number: number.name)


SLOW = Path(__file__).parent.parent / "parsers" / "found" / "slow.h5"
"""A file on which its parser computes until its time limit."""


def ended(process: subprocess.Popen[str], number: signal.Signals, group: bool = True) -> None:
    """Send a signal to a command, as a terminal does to its whole group; check that it ends as it should."""
    (os.killpg if group else os.kill)(process.pid, number)
    _, complaint = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, complaint) == (CODES[number], "")


WHILE_IMPORTING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
from rnndiag.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("typer", signal.SIGINT),
        ("rnndiag.cli", signal.SIGTERM),
        ("torch", signal.SIGINT),
        ("torch.nn.functional", signal.SIGHUP),
        ("rnndiag.diagnose", signal.SIGINT),
    ],
)
def test_while_modules_are_imported(saved: Path, name: str, number: signal.Signals) -> None:
    code = WHILE_IMPORTING.format(name=name, number=int(number))
    with running("-c", code, "inspect", saved, "--T", "12") as process:
        out, complaint = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, out, complaint) == (CODES[number], "", "")


WHILE_WORKERS_START = """
import os, signal, time
from multiprocessing import util
start, started = util.spawnv_passfds, []
def start_and_interrupt(path, arguments, descriptors):
    number = start(path, arguments, descriptors)
    if any(b"spawn_main" in os.fsencode(each) for each in arguments):
        started.append(number)
        if len(started) == {nth}:
            os.killpg(0, signal.SIGINT)
            time.sleep(0.3)  # an exception that follows from the signal is raised here
    return number
util.spawnv_passfds = start_and_interrupt
from rnndiag.__main__ import main
main()
"""


@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupt_between_the_start_of_a_worker_and_its_first_task_prints_nothing(tmp_path: Path, nth: int) -> None:
    """The worker has started, and multiprocessing has not yet written to its pipe what it must do."""
    paths = [save(tmp_path / f"m{i}.pt", i) for i in range(4)]
    options = ("--no-treat", "--workers", "2")
    with running("-c", WHILE_WORKERS_START.format(nth=nth), "inspect", *paths, *options) as process:
        out, complaint = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, out, complaint) == (130, "", "")


@pytest.mark.parametrize("seconds", [0, 0.1, 0.6])
def test_a_worker_that_is_interrupted_while_it_starts_prints_nothing(tmp_path: Path, seconds: float) -> None:
    """The signal comes after ``seconds`` of computing. A worker that imports torch and measures takes much longer."""
    paths = [save(tmp_path / f"m{i}.pt", i) for i in range(4)]
    options = ("--T", "20000", "--no-treat", "--workers", "2")  # no model is finished before the signal
    with running("-m", "rnndiag", "inspect", *paths, *options) as process:

        def started() -> bool:
            return any(each.cpu_times().user >= seconds for each in children(process, WORKER))

        until(started, pause=0.005)
        workers = children(process, "")
        ended(process, signal.SIGINT)
    assert_all_end(workers)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of a model and 12 MB of noise, which takes seconds to unpack."""
    (tmp_path / "noise.bin").write_bytes(os.urandom(12 << 20))
    path = tmp_path / "models.tar"
    with tarfile.open(path, "w:bz2") as tar:
        tar.add(tmp_path / "noise.bin", "noise.bin")
        tar.add(save(tmp_path / "m.pt", 0), "m.pt")
    return path


@pytest.mark.parametrize(
    ("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (1, signal.SIGHUP), (2, signal.SIGTERM)]
)
def test_while_an_archive_is_unpacked(tmp_path: Path, archive: Path, workers: int, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    copies = [archive, archive.with_name("more.tar")]
    copies[1].symlink_to(archive)
    command = ("-m", "rnndiag", "inspect", *copies, "--workers", workers)
    with running(*command, env=environment) as process:
        until(lambda: any(file.stat().st_size for file in temporary.rglob("noise.bin")), pause=0.005)
        below = children(process, "")
        ended(process, number)
    assert_all_end(below)
    assert list(temporary.iterdir()) == []


def is_being_written(folder: Path) -> bool:
    """Whether the command has begun to write a file there."""
    try:
        return any(file.is_file() for file in folder.glob(".rnndiag.*/*"))
    except FileNotFoundError:  # the command tries the folder beforehand, and removes what it made
        return False


@signals(signal.SIGINT, signal.SIGTERM)
def test_while_a_model_is_written(tmp_path: Path, number: signal.Signals) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": nn.RNN(4, 8), "large": nn.Embedding(1 << 20, 64)})
    path, folder = tmp_path / "model.pt", tmp_path / "out"
    torch.save(model.state_dict(), path)
    folder.mkdir()
    command = ("prescribe", path, "--T", "12", "--take", "init-orthogonal", "--treatment", "init-orthogonal")
    with running("-m", "rnndiag", *command, "--save", folder / "new.pt") as process:
        until(lambda: is_being_written(folder), pause=0.002)
        ended(process, number)
    assert list(folder.iterdir()) == []


@signals(signal.SIGINT, signal.SIGHUP)
def test_with_a_worker_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    paths = [save(tmp_path / f"m{i:02}.pt", i, hidden=48) for i in range(24)]
    out = tmp_path / "out.jsonl"
    options = ("--T", "100", "--no-treat", "--format", f"jsonl={out}", "--workers", "2")
    with running("-m", "rnndiag", "inspect", *paths, *options) as process:
        until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 2)
        below = children(process, "")
        children(process, WORKER)[0].suspend()
        ended(process, number)
    assert_all_end(below)


def test_a_pool_ends_although_its_workers_are_stopped() -> None:
    with processes(2) as pool:
        ids = [pool.submit(os.getpid).result() for _ in range(2)]
        workers = [psutil.Process(number) for number in {*ids}]
        for worker in workers:
            worker.suspend()
    assert_all_end(workers)


@signals(signal.SIGINT, signal.SIGTERM)
def test_a_parser_ends_with_its_command(number: signal.Signals) -> None:
    with running("-m", "rnndiag", "inspect", SLOW) as process:
        parsers = until(lambda: [each for each in children(process, PARSER) if each.cpu_times().user > 0.5])
        ended(process, number)
    assert_all_end(parsers)


IN_NATIVE_CODE = """
import torch
from pathlib import Path
def model():
    Path({marker!r}).touch()
    torch.linalg.eigvals(torch.rand(8000, 8000))  # minutes, in which Python handles no signal
"""


@signals(signal.SIGINT, signal.SIGHUP)
def test_within_a_long_call_of_native_code(tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path / "computing"
    (tmp_path / "own.py").write_text(IN_NATIVE_CODE.format(marker=str(marker)), encoding="utf-8")
    with running("-m", "rnndiag", "inspect", "--import", "own:model", cwd=tmp_path) as process:
        until(marker.exists)
        ended(process, number)


def test_finished_models_are_reported_after_ctrl_c(tmp_path: Path) -> None:
    """The second model takes a minute."""
    paths = [save(tmp_path / "short.pt", 0), save(tmp_path / "long.pt", 1, hidden=256)]
    options = ("--T", "12000", "--no-treat", "--exponents", "2", "--format", "json", "--workers", "2")
    with running("-m", "rnndiag", "inspect", *paths, *options) as process:
        workers = until(lambda: len(children(process, WORKER)) == 2 and children(process, WORKER))
        until(lambda: max(each.cpu_times().user for each in workers) > 8 + min(e.cpu_times().user for e in workers))
        os.killpg(process.pid, signal.SIGINT)
        out, complaint = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, complaint) == (130, "")
    assert "short.pt" in out
    assert "long.pt" not in out
    assert_all_end(workers)


def test_a_terminal_that_closes_does_not_end_a_command_under_nohup(saved: Path) -> None:
    ignore: Any = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    with running("-m", "rnndiag", "inspect", saved, "--T", "12", preexec_fn=ignore) as process:
        for _ in range(20):
            os.killpg(process.pid, signal.SIGHUP)
            try:
                process.wait(0.2)
                break
            except subprocess.TimeoutExpired:
                continue
        out, complaint = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, complaint) == (0, "")
    assert "Verdict" in out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_no_worker_outlives_a_killed_parent_whatever_it_computes(tmp_path: Path) -> None:
    """One worker keeps Python's lock, so that none of its threads runs; another is stopped."""
    (tmp_path / "computing.py").write_text(
        "import ctypes, pathlib\n"
        "def compute(marker):\n"
        "    pathlib.Path(marker).touch()\n"
        "    ctypes.PyDLL(None).sleep(1000)  # keeps Python's lock\n",
        encoding="utf-8",
    )
    markers = [str(tmp_path / "a"), str(tmp_path / "b")]
    code = (
        "import computing\n"
        "from rnndiag.fleet.processes import processes\n"
        "with processes(2) as pool:\n"
        f"    tasks = [pool.submit(computing.compute, marker) for marker in {markers}]\n"
        "    [task.result() for task in tasks]\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with running("-c", code, env=environment) as process:
        until(lambda: all(Path(marker).exists() for marker in markers))
        below = children(process, "")
        children(process, WORKER)[1].suspend()
        process.kill()
        assert_all_end(below)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_no_parser_outlives_a_killed_parent() -> None:
    with running("-m", "rnndiag", "inspect", SLOW) as process:
        parsers = until(lambda: [each for each in children(process, PARSER) if each.cpu_times().user > 0.5])
        parsers[0].suspend()
        process.kill()
        assert_all_end(parsers)


DURING_RENAMES = """
import os, signal
from rnndiag.process import signals
signals.install()
with signals.atomic():
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass
    print("whole", flush=True)
print("not ended", flush=True)
"""


@signals(*CODES)
def test_renames_that_belong_together_are_not_interrupted(number: signal.Signals) -> None:
    with running("-c", DURING_RENAMES.format(name=number.name)) as process:
        out, complaint = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, out, complaint) == (CODES[number], "whole\n", "")
