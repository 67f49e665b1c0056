"""The house: who may import whom, what stays light, how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rnndiag

PACKAGE = Path(rnndiag.__file__).parent

ROOMS = (
    {
        "errors",
        "config",
        "config_file",
        "config_search",
        "config_toml",
        "config_yaml",
        "cleanup",
        "descriptors",
        "globs",
        "parent_process",
        "seeds",
        "signals",
        "printable",
        "side_files",
        "told",
        "whole_file",
    },
    {"machine"},
    {"operators", "cells", "probes", "parsers"},
    {"checkpoint", "random_nets", "trajectory"},
    {"measures", "theory"},
    {"rules", "treatments"},
    {"report", "report_shape"},
    {"estimate"},
    {"diagnose", "baseline"},
    {"compare", "prescription", "sweep", "trend"},
    {"fleet", "renderers"},
    {"api"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
"""Earlier rooms know nothing of later ones."""

LIBRARIES = {
    "rich": {"renderers", "cli"},
    "typer": {"cli", "__main__"},
    "plotext": {"renderers"},
    "junitparser": {"renderers"},
    "msgspec": {"checkpoint", "report", "config_file", "baseline", "renderers", "sweep", "fleet"},
    "yaml": {"config_yaml"},
    "safetensors": {"parsers", "checkpoint"},
    "onnx": {"parsers"},
    "h5py": {"parsers"},
    "fsspec": {"checkpoint"},
    "distributed": {"fleet"},
}
"""Which rooms may import a library."""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(ROOMS) if name in rooms)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        if (
            parts[0] == "rnndiag"
            and len(parts) > 1
            and (PACKAGE / parts[1]).exists() | (PACKAGE / f"{parts[1]}.py").exists()
        ):
            assert floor(parts[1]) <= floor(room(path)), f"{room(path)} imports {name}"
        allowed = LIBRARIES.get(parts[0])
        assert allowed is None or room(path) in allowed, f"{room(path)} imports {parts[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if room(path) in ("cli", "__main__") or path.name == "worker.py":  # the main of its own process
        return
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"print", "exit", "sys.exit", "sys.stdout.write", "sys.stderr.write"}


STREAMS = PACKAGE / "cli" / "streams.py"
"""The one file that writes to stdout and stderr: nothing else can forget to make a text printable."""


PARSER = PACKAGE / "parsers" / "worker.py"
"""The main of a process of its own, which writes its result to a pipe."""


@pytest.mark.parametrize(
    "path", [p for p in FILES if p not in (STREAMS, PARSER)], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_one_file_writes_to_the_streams(path: Path) -> None:
    calls = {node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)}
    names = {ast.unparse(call).rpartition("sys.")[2] for call in calls}
    assert not names & {"print", "Console", "typer.echo", "typer.secho", "StreamHandler", "logging.StreamHandler"}
    assert not {name for name in names if name.startswith(("stdout.write", "stderr.write", "stdout.buffer"))}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_json_is_written_by_the_function_that_escapes_it(path: Path) -> None:
    raw = {
        ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)
    }
    if "json.dumps" in raw and path.parent == PACKAGE / "renderers":
        pytest.fail("use printable.json_text")
    assert not raw & {"csv.writer", "csv.DictWriter"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "parsers"], ids=lambda p: p.name)
def test_parsers_start_without_torch(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & {"torch", "msgspec", "yaml", "rich", "typer"}


def test_every_room_is_on_a_floor() -> None:
    for path in FILES:
        floor(room(path))


def test_public_names_exist() -> None:
    for name in rnndiag.__all__:
        assert getattr(rnndiag, name) is not None
        assert name in dir(rnndiag)
    assert len(rnndiag.__all__) <= 12
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        rnndiag.nonsense  # noqa: B018
