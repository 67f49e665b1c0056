"""Patterns of paths against Python's glob, and folders that would be searched forever."""

from __future__ import annotations

import glob
import os
import random
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from rnndiag.checkpoint.search import Search
from rnndiag.cli.paths import UnfoundError, expand
from rnndiag.cli.patterns import matching
from tests.builders.command_line import Cli
from tests.builders.processes import completed

QUICK = ("--T", "6", "--batch", "2", "--exponents", "2", "--no-treat")
PATTERNS = (
    "*", "**",
    "**/*", "*/*", "a*", "[ab]*", "**/b", "**/b/*", "a/**", "a/**/c", "**/**/c", "*/../a", "./*", ".*", "**/.h",
    "a/b", "a/[!b]", "**/a/**/b", "?/?", "*/", "**/", "none*", "a/*/*/*", ".h/*", "../*/a*",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hundred files and folders of few names, without links."""
    draw = random.Random(0)
    here = tmp_path / "here"
    for _ in range(60):
        folder = here.joinpath(*draw.choices(["a", "b", "c", ".h"], k=draw.randint(0, 3)))
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / draw.choice(["a.x", "b.x", "c.y"])
        if not file.exists():
            file.touch()
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize("pattern", PATTERNS)
def test_without_links_what_python_finds_is_found(tree: Path, pattern: str) -> None:
    for prefix in ("", f"{tree}{os.sep}"):
        expected = {os.path.normpath(path) for path in glob.glob(prefix + pattern, recursive=True) if path != prefix}  # noqa: PTH207
        found = matching(prefix + pattern, Search(pattern))
        assert {os.path.normpath(path) for path in found} - {os.path.normpath(prefix or ".")} == expected - {
            os.path.normpath(prefix or ".")
        }
        assert found == sorted(found)


def names(*paths: str) -> list[str | UnfoundError]:
    return list(expand(paths))


@pytest.fixture
def circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, and in each folder ten links that lead back to the top: 10^n paths of n links."""
    for folder in (tmp_path, tmp_path / "real", tmp_path / "real" / "inner"):
        folder.mkdir(exist_ok=True)
        for number in range(10):
            (folder / f"loop{number}").symlink_to(tmp_path)
    (tmp_path / "real" / "m.pt").touch()
    (tmp_path / "real" / "inner" / "n.pt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    ["**/*.pt", "**/" * 30 + "*.pt", "**", "**/real/**/*.pt", "**/*/**/*.pt", "**/inner/../*.pt", "**/loop*/**"],
)
def test_links_in_circles_are_searched_once(circle: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnndiag.checkpoint.search.MAX_VISITED", 1000)
    found = names(pattern)
    assert found
    assert {Path(str(path)).name for path in found} <= {"m.pt", "n.pt"}
    assert len(found) <= 4


def test_stars_through_links_in_circles_end(circle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnndiag.checkpoint.search.MAX_VISITED", 2000)
    assert names("*/" * 30 + "*.pt")  # each folder at most once for each star


def test_a_folder_has_its_own_name_and_not_that_of_a_link(circle: Path) -> None:
    assert names("**/*.pt") == ["real/inner/n.pt", "real/m.pt"]
    (circle / "real" / "elsewhere").symlink_to(circle / "real" / "inner")
    assert names("**/*.pt") == ["real/inner/n.pt", "real/m.pt"]


def test_a_search_that_exceeds_its_limit_is_one_line(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnndiag.checkpoint.search.MAX_VISITED", 50)
    for number in range(60):
        (tmp_path / f"{number}.pt").touch()
    for path in (tmp_path, f"{tmp_path}/**", f"{tmp_path}/*.pt"):
        done = cli("check", path)
        assert (done.code, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert f"{path}: the search stopped after 50 files and folders" in line


def test_a_tree_is_read_once_whatever_the_pattern(tmp_path: Path) -> None:
    """The test counts entries; it does not measure time."""
    below = tmp_path
    for depth in range(40):
        below = below / f"d{depth}"
        below.mkdir()
        (below / "m.pt").touch()
    for pattern in ("**/*.pt", "**/" * 30 + "*.pt", "**/m.pt", "**/d*/**/m*"):
        search = Search(pattern)
        assert matching(f"{tmp_path}/{pattern}", search)
        assert search.visited == 80, pattern
    search = Search("folder")
    assert len(list(search.models_in(tmp_path))) == 40
    assert search.visited == 80
    assert list(search.models_in(tmp_path / "d0")) == []


def test_a_folder_deeper_than_python_recurses_is_searched(tmp_path: Path) -> None:
    here = os.getcwd()  # noqa: PTH109
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("a")  # noqa: PTH102
            os.chdir("a")
        Path("m.pt").touch()
    finally:
        os.chdir(here)
    try:
        (found,) = Search("deep").models_in(tmp_path)
        assert found.name == "m.pt"
        assert matching(f"{tmp_path}/**/m.pt", Search("deep")) == [str(found)]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)  # pytest's own way of removing it recurses


def test_a_matched_name_is_a_file_and_never_stdin(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(nn.GRU(3, 4).state_dict(), tmp_path / "-")
    (tmp_path / "s3:").mkdir()
    torch.save(nn.GRU(3, 4).state_dict(), tmp_path / "s3:" / "m.pt")
    for pattern, expected in (("*", ["./-", "s3:/m.pt"]), ("?", ["./-"]), ("[-]", ["./-"]), ("*//*", ["s3:/m.pt"])):
        done = completed("check", "--", pattern, folder=tmp_path, stdin=b"not a model")
        assert done.stderr == b"", done.stderr
        assert all(path.encode() in done.stdout for path in expected), done.stdout
