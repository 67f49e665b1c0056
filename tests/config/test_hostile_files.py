"""Config files made to break the reader are refused in one line that names the place, or are not read at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rnndiag.config.search import MAX_BYTES
from rnndiag.config.toml_file import MAX_DEPTH
from rnndiag.config.yaml_file import MAX_NODES
from tests.builders.command_line import Cli
from tests.builders.irregular_files import huge, not_regular
from tests.builders.processes import completed
from tests.paths import SAMPLES

QUICK = ("--T", "6", "--batch", "2", "--exponents", "2", "--no-treat")

LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 8)}]\n" for i in range(20)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 8)}]}}\n" for i in range(20)
)

YAML = {
    "half of a surrogate pair": ('lag: 1\nlayer: "\\ud800"\n', "line 2, column 8: expected text, got '\\ud800'"),
    "half of a surrogate pair as a key": ('lag: 1\n"\\udfff": 1\n', "line 2, column 1: expected text"),
    "an invalid date": ("lag: 1\nlength: 2024-13-45\n", "line 2, column 9: expected a date such as 2024-12-31"),
    "an invalid int": ("lag: !!int abc\n", "line 1, column 6: expected a whole number below 2^63, got 'abc'"),
    "an empty int": ("lag: !!int ''\n", "line 1, column 6: expected a whole number"),
    "an invalid bool": ("treat: !!bool maybe\n", "line 1, column 8: expected true or false, got 'maybe'"),
    "an invalid float": ("scale: !!float ''\n", "line 1, column 8: expected a number, got ''"),
    "an invalid timestamp": ("probe: !!timestamp abc\n", "line 1, column 8: expected a date"),
    "a prefix alone": ("lag: 0x_\n", "line 1, column 6: expected a whole number below 2^63, got '0x_'"),
    "5,000 digits": (f"lag: {'1' * 5000}\n", "line 1, column 6: expected a whole number below 2^63"),
    "64 bits": ("seed: 9223372036854775808\n", "line 1, column 7: expected a whole number below 2^63"),
    "base 60 without end": (f"lag: 1{':1' * 100_000}\n", "line 1, column 6: expected a whole number below 2^63"),
    "a billion laughs": (LAUGHS, "levels of nesting and 20,000 values, counting aliases"),
    "a billion merges": (MERGES, "levels of nesting and 20,000 values, counting aliases"),
    "a merge of a number": ("<<: 5\n", "line 1, column 5: expected a mapping"),
    "an anchor in itself": ("rules: &a [*a]\n", "line 1, column 8: an alias refers to the value that contains it"),
    "a merge with itself": ("rules: &a {<<: *a}\n", "line 1, column 8: an alias refers to the value that contains it"),
    "deep": (f"rules: {'[' * 100_000}", "line 1, column 39: expected at most 32 levels of nesting"),
    "a key twice": ("lag: 3\nbatch: 2\nlag: 4\n", "line 3, column 1: the key 'lag' is given twice"),
    "a control character": ("lag: 3\nbatch: \0\n", "line 2, column 8: special characters are not allowed"),
    "a key that is a list": ("[1]: 2\n", "line 1, column 1: found unhashable key"),
    "a key that is a number": ("layers: {1: {}}\n", "at a key of layers: expected `str`, got `int`"),
    "code": ("lag: !!python/object/apply:os.system [ls]\n", "line 1, column 6: could not determine a constructor"),
    "too many values": (f"paths: [{'1,' * MAX_NODES}]\n", "expected at most 32 levels of nesting and 20,000 values"),
}
TOML = {
    "5,000 digits": (f"lag = {'1' * 5000}\n", "line 2, column 7: expected a whole number below 2^63"),
    "20,000 hexadecimal digits": (
        f"lag = 0x{'f' * 20000}\n",
        "at tool.rnndiag.lag: expected a whole number below 2^63",
    ),
    "an invalid date": ("lag = 2024-13-45\n", "(at line 2, column"),
    "a date": ("probe = 2024-12-05\n", "at probe: expected `str | null`, got `date`"),
    "deep": (f"paths = {'[' * 100_000}\n", "line 2, column 41: expected at most 32 levels of nesting"),
    "a header of many parts": (f"[{'a.' * 1000}a]\n", f"line 2, column 2: a key of more than {MAX_DEPTH} parts"),
    "a key of many parts": (f"{'a.' * 1000}a = 1\n", f"line 2, column 1: a key of more than {MAX_DEPTH} parts"),
    "a key twice": ("lag = 1\nlag = 2\n", "(at line 3, column"),
    "a control character": ("lag = 1\nmap = \0\n", "(at line 3, column"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_refused_in_one_line_with_its_place(cli: Cli, tmp_path: Path, name: str) -> None:
    text, words = YAML[name]
    refused(cli, tmp_path / "rnndiag.yaml", text, words)


@pytest.mark.parametrize("name", TOML)
def test_toml_is_refused_in_one_line_with_its_place(cli: Cli, tmp_path: Path, name: str) -> None:
    text, words = TOML[name]
    refused(cli, tmp_path / "pyproject.toml", f"[tool.rnndiag]\n{text}", words)


def refused(cli: Cli, path: Path, text: str, words: str) -> None:
    path.write_text(text, encoding="utf-8")
    done = cli("check", SAMPLES / "gru.pt", *QUICK, "--config", path)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
    assert done.err.startswith(f"rnndiag: error: {path}: ")
    assert words in done.err


def test_bytes_that_are_not_text_are_refused_with_their_place(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rnndiag.yaml"
    path.write_bytes("lag: 3\nprobe: ü".encode() + b"\xff\n")
    done = cli("check", SAMPLES / "gru.pt", "--config", path)
    assert done.code == 2
    assert "not UTF-8 at line 2, column 9: unexpected byte 0xff" in done.err


def test_valid_anchors_and_merges_are_read(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rnndiag.yaml"
    path.write_text("rules: {SAT001: &a {severity: info}, SAT003: {<<: *a, share: 0.5}}\n", encoding="utf-8")
    done = cli("check", "--show-config", "--config", path)
    assert done.code == 0
    assert "0.5" in done.out


def test_what_config_names_is_a_regular_file_under_the_limit(cli: Cli, tmp_path: Path) -> None:
    for path in (*not_regular(tmp_path, ".yaml").values(), huge(tmp_path / "huge.yaml", MAX_BYTES)):
        done = cli("check", SAMPLES / "gru.pt", "--config", path)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
        assert path.name in done.err


def check_in(folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command in its own process, because a command that waits for a pipe could not be stopped here."""
    return completed("check", SAMPLES / "gru.pt", *QUICK, folder=folder)


def test_pyproject_files_above_that_are_not_regular_or_too_large_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path
    for kind, path in not_regular(tmp_path, ".toml").items():
        folder = folder / kind
        folder.mkdir(exist_ok=True)
        path.rename(folder / "pyproject.toml")
    folder = folder / "huge"
    folder.mkdir()
    huge(folder / "pyproject.toml", 3 << 30, b"[tool.rnndiag]\nlag = 'no'\n")
    (folder / "below").mkdir()
    done = check_in(folder / "below")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "socket"])
def test_a_file_named_rnndiag_yaml_that_is_not_regular_is_refused(tmp_path: Path, kind: str) -> None:
    not_regular(tmp_path, ".yaml")[kind].rename(tmp_path / "rnndiag.yaml")
    done = check_in(tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.splitlines()
    assert b"rnndiag.yaml: expected a regular file, got" in line


def test_a_working_directory_that_is_gone_has_no_config(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, '-P', *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", script, "-m", "rnndiag", "check", "--show-config"],
        cwd=gone, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
