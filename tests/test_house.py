"""The house: who may import whom, what stays light, how long a file may be."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rnndiag
from tests.paths import ROOT

PACKAGE = Path(rnndiag.__file__).parent

FLOORS = (
    "printable",
    "process",
    "version",
    "seeds",
    "errors",
    "files",
    "config",
    "machine",
    "kinds",
    "operators",
    "cells",
    "probes",
    "trajectory",
    "bench",
    "measuring_cost",
    "measures",
    "parsers",
    "checkpoint",
    "random_nets",
    "rules",
    "theory",
    "treatments",
    "report",
    "diagnose",
    "comparison",
    "sweep",
    "trend",
    "prescription",
    "fleet",
    "renderers",
    "api",
    "",  # the root of the package
    "testing",
    "cli",
    "__main__",
)
"""The packages and root files, the lowest first. Each imports only those before it."""

ROOMS_OF_CHECKPOINT = (
    "model",
    "location",
    "contents",
    "unpickling",
    "layers",
    "live",
    "formats",
    "unpack",
    "search",
    "fetch",
    "archived",
    "verification",
    "load",
    "module",
    "write",
    "probe_file",
    "",  # the face of the package
)
"""The packages and root files of ``checkpoint``, the lowest first, by the same rule."""

ROOMS_OF_PARSERS = ("limits", "parsed", "origin", "zip_member", "hdf5", "onnx", "keras", "worker", "")
"""The packages and root files of ``parsers``, the lowest first, by the same rule. The worker is the top: nothing in a
parser knows the process that it runs in."""

LIBRARIES = {
    "rich": {"renderers", "cli"},
    "typer": {"cli", "__main__"},
    "plotext": {"renderers"},
    "junitparser": {"renderers"},
    "msgspec": {"checkpoint", "report", "config", "comparison", "renderers", "sweep", "fleet"},
    "yaml": {"config"},
    "safetensors": {"parsers", "checkpoint"},
    "onnx": {"parsers"},
    "h5py": {"parsers"},
    "onnxruntime": {"parsers"},
    "keras": {"parsers"},
    "fsspec": {"checkpoint"},
    "distributed": {"fleet"},
}
"""Which rooms may import a library."""


ROOMS_IN_ROOMS = ("checkpoint", "parsers")
"""Packages whose own packages have a line each in CONTRIBUTING.md, like those of the root."""


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(("rnndiag", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
           for path in FILES}  # fmt: skip


def room(path: Path, package: Path = PACKAGE) -> str:
    """The package or root file that a file belongs to; empty for the root of the package."""
    return path.relative_to(package).parts[0].removesuffix(".py").removesuffix("__init__")


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere, also under ``TYPE_CHECKING``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module or "" for name in inner}
    return found


TEST_FILES = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def test_every_room_is_on_a_floor() -> None:
    assert {room(path) for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    here = room(MODULES[name])
    for imported in IMPORTS[name] & MODULES.keys():
        there = room(MODULES[imported])
        assert there == here or FLOORS.index(there) < FLOORS.index(here), f"{name} imports {imported}"


CHECKPOINT = {name: path for name, path in MODULES.items() if room(path) == "checkpoint"}


def test_every_room_of_checkpoint_is_on_a_floor() -> None:
    assert {room(path, PACKAGE / "checkpoint") for path in CHECKPOINT.values()} == set(ROOMS_OF_CHECKPOINT)


@pytest.mark.parametrize("name", CHECKPOINT)
def test_imports_go_down_within_checkpoint(name: str) -> None:
    floors = ROOMS_OF_CHECKPOINT.index
    here = room(CHECKPOINT[name], PACKAGE / "checkpoint")
    for imported in IMPORTS[name] & CHECKPOINT.keys():
        there = room(CHECKPOINT[imported], PACKAGE / "checkpoint")
        assert there == here or floors(there) < floors(here), f"{name} imports {imported}"


PARSERS = {name: path for name, path in MODULES.items() if room(path) == "parsers"}


def test_every_room_of_the_parsers_is_on_a_floor() -> None:
    assert {room(path, PACKAGE / "parsers") for path in PARSERS.values()} == set(ROOMS_OF_PARSERS)


@pytest.mark.parametrize("name", PARSERS)
def test_imports_go_down_within_parsers(name: str) -> None:
    floors = ROOMS_OF_PARSERS.index
    here = room(PARSERS[name], PACKAGE / "parsers")
    for imported in IMPORTS[name] & PARSERS.keys():
        there = room(PARSERS[imported], PACKAGE / "parsers")
        assert there == here or floors(there) < floors(here), f"{name} imports {imported}"
        assert {there, here} != {"onnx", "keras"}, f"{name} imports {imported}: one format knows nothing of another"


@pytest.mark.parametrize("name", MODULES)
def test_libraries_stay_in_their_rooms(name: str) -> None:
    here = room(MODULES[name])
    for imported in IMPORTS[name]:
        assert here in LIBRARIES.get(imported.partition(".")[0], {here}), f"{name} imports {imported}"


def test_no_file_imports_itself_through_others() -> None:
    graph = {name: (found & MODULES.keys()) - {name} for name, found in IMPORTS.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the files of a circle


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
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) in ("files", "parsers")], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_files_and_parsers_start_without_torch(path: Path) -> None:
    """The processes that parse files are small and start fast; they use both rooms."""
    assert not {name.partition(".")[0] for name in imports(path)} & {"torch", "msgspec", "yaml", "rich", "typer"}


def test_public_names_exist() -> None:
    for name in rnndiag.__all__:
        assert getattr(rnndiag, name) is not None
        assert name in dir(rnndiag)
    assert len(rnndiag.__all__) <= 12
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        rnndiag.nonsense  # noqa: B018


def test_the_map_names_every_package_and_root_file() -> None:
    """The table in CONTRIBUTING.md has one line for each of them, and no other lines, in the order of the floors."""
    folders = [PACKAGE, *(PACKAGE / name for name in ROOMS_IN_ROOMS)]
    packages = [f"{file.parent.relative_to(PACKAGE)}/" for folder in folders for file in folder.glob("*/__init__.py")]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted([*packages, *(file.name for file in PACKAGE.glob("*.py"))])
    of_root = [name.removesuffix("/").removesuffix(".py").removesuffix("__init__") for name in named]
    assert [name for name in of_root if "/" not in name] == list(FLOORS)


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_imports_a_test_module(path: Path) -> None:
    """Several test modules share code through ``tests/builders`` and ``tests/oracles``."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not [name for name in named if re.search(r"\b(test_|conftest\b)", name)]
