"""rnndiag as a process: its streams, pipes and terminals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from rnndiag.cli import app
from tests.builders.command_line import Cli

QUICK = ("--T", "12", "--batch", "3")


def process(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rnndiag", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_no_arguments_is_a_request_for_help() -> None:
    done = process()
    assert done.returncode == 0
    assert "Usage: rnndiag" in done.stdout


@pytest.mark.parametrize("command", get_command(app).commands)
def test_help_shows_its_brackets(cli: Cli, command: str) -> None:
    out = cli(command, "--help").out
    assert "[]" not in out  # rich takes [a.b] for a style unless it is escaped
    assert "[[" not in out


def test_a_closed_pipe_ends_quietly(saved: Path) -> None:
    command = f"{sys.executable} -m rnndiag inspect {saved} --verbose --T 300 --batch 2 | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_unicode_gets_no_traceback(saved: Path) -> None:
    done = process("inspect", saved, *QUICK, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")


def test_no_colour_in_a_pipe_and_none_when_quiet(saved: Path) -> None:
    assert "\x1b[" not in process("inspect", saved, *QUICK).stdout
    forced = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[" in process("inspect", saved, *QUICK, env=forced).stdout
    plain = process("inspect", saved, *QUICK, "--quiet", env=forced).stdout
    assert "\x1b[3" not in plain
