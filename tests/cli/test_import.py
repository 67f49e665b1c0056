"""``--import``: models made by the user's own code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from rnndiag.report import json_schema
from tests.builders.command_line import Cli, Done, one_line

QUICK = ("--T", "12", "--batch", "3")

CODE = """
import torch
from torch import nn

print("imported")
NET = nn.GRU(3, 4)
ANSWER = 42


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(3, width)


def make_net():
    print("made")
    return Net()


def from_path(path):
    net = Net()
    net.load_state_dict(torch.load(path, weights_only=True))
    return net


def make_step():
    def step(h, x):
        print("stepped")
        return torch.tanh(0.5 * h + x)

    return step, torch.zeros(3), torch.ones(5, 20, 3)


def nothing():
    Net()


def two():
    return make_step()[:2]


def fails():
    raise ValueError("no weights\\nfor it")


def leaves():
    raise SystemExit("bye")


def bad_step():
    def step(h, x):
        return h[5]

    return step, torch.zeros(3), torch.ones(5, 20, 3)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module, a package and modules that cannot be imported."""
    (tmp_path / "models_of_mine.py").write_text(CODE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "nets.py").write_text("from models_of_mine import make_net\n")
    (tmp_path / "lacking.py").write_text("x = 1\nimport no_such_library\n")
    (tmp_path / "unfinished.py").write_text("def make(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("models_of_mine", "package", "lacking", "unfinished"):
            del sys.modules[name]


def only(done: Done) -> dict:
    assert done.code == 0, done.err
    document = json.loads(done.out)  # and nothing that the user's code prints
    jsonschema.validate(document, json_schema())
    return document


@pytest.mark.parametrize("spec", ["models_of_mine:make_net", "models_of_mine:Net", "package.nets:make_net"])
def test_a_module_without_a_path(cli: Cli, project: Path, spec: str) -> None:
    done = cli("inspect", "--import", spec, *QUICK, "--format", "json")
    report = only(done)
    wanted = {"path": spec, "format": "module", "sha256": "", "skipped": [], "progress": {}, "framework": "PyTorch"}
    assert report["source"] == wanted | {"pickled_names": []}
    assert [layer["name"] for layer in report["layers"]] == ["rnn.l0"]
    assert ("made" in done.err) == spec.endswith("make_net")


def test_a_module_of_each_path(cli: Cli, project: Path) -> None:
    import torch
    from torch import nn

    net = nn.ModuleDict({"rnn": nn.LSTM(3, 4)})
    for name in ("a.pt", "b.pt"):
        torch.save(net.state_dict(), name)
    done = cli("inspect", "a.pt", "b.pt", "--import", "models_of_mine:from_path", *QUICK, "--format", "json")
    both = json.loads(done.out)
    assert [(each["source"]["path"], each["source"]["format"]) for each in both] == [
        ("a.pt", "module"),
        ("b.pt", "module"),
    ]
    direct = json.loads(cli("inspect", "a.pt", *QUICK, "--format", "json").out)
    assert direct["layers"] == both[0]["layers"]
    done = cli("inspect", "a.pt", "missing.pt", "--import", "models_of_mine:from_path", *QUICK)
    assert done.code == 2
    assert "a.pt" in done.out
    assert "FileNotFoundError" in done.err
    assert "(models_of_mine.py:24)" in done.err


def test_a_step_function(cli: Cli, project: Path) -> None:
    done = cli(
        "check", "--import", "models_of_mine:make_step", "--batch", "2", "--format", "json", "--fail-on", "never"
    )
    report = only(done)
    assert report["source"]["format"] == "function"
    assert report["source"]["path"] == "models_of_mine:make_step"
    assert (report["probe"]["batch"], report["probe"]["length"]) == (2, 20)
    assert "stepped" in done.err
    assert "--probe: " in cli("check", "--import", "models_of_mine:make_step", "--probe", "sine").err


def test_the_gate(cli: Cli, project: Path) -> None:
    done = cli("check", "--import", "models_of_mine:make_step")
    assert done.code == 1
    assert "models_of_mine:make_step: vanishing at lag 20; 1 error" in done.out


def test_paths_of_a_config_are_not_handed_to_code(cli: Cli, project: Path) -> None:
    (project / "rnndiag.yaml").write_text("paths: [a.pt]\nlag: 5\n")
    report = only(cli("inspect", "--import", "models_of_mine:make_net", *QUICK, "--format", "json"))
    assert report["stacks"][0]["lag"] == 5


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("models_of_mine", "expected package.module:factory, such as train:make_model"),
        ("models_of_mine.py:make_net", "did you mean models_of_mine:make_net?"),
        ("package/nets.py", "did you mean package.nets:factory?"),
        (":make_net", "expected package.module:factory"),
        ("models_of_mine:", "expected package.module:factory"),
        ("models-of-mine:make_net", "expected package.module:factory"),
        ("model_of_mine:make_net", "no module 'model_of_mine'; did you mean models_of_mine?"),
        ("package.net:make_net", "no module 'package.net'; did you mean package.nets?"),
        ("nowhere.at.all:make_net", "no module 'nowhere', importable from "),
        ("models_of_mine:make_nets", "models_of_mine has no 'make_nets'; did you mean make_net?"),
        ("models_of_mine:qqq", "models_of_mine has no 'qqq'; it has Net, bad_step, fails, "),
        ("models_of_mine:ANSWER", "expected a function that returns a model, got a int"),
        ("models_of_mine:NET", "expected a function that returns a model, got a GRU"),
        ("models_of_mine:nothing", "expected it to return an nn.Module or a tuple (step, state0, inputs), got None"),
        ("models_of_mine:two", "got a tuple of 2 (function, Tensor)"),
        ("models_of_mine:from_path", "expected it to take no argument, as no PATH was given: missing a required"),
        ("models_of_mine:fails", "models_of_mine:fails: ValueError: no weights for it (models_of_mine.py:45)"),
        ("models_of_mine:leaves", "SystemExit: bye (models_of_mine.py:49)"),
        ("models_of_mine:bad_step", "step: IndexError: "),
        ("lacking:make", "lacking:make: ModuleNotFoundError: No module named 'no_such_library' (lacking.py:2)"),
        ("unfinished:make", "unfinished:make: SyntaxError: invalid syntax (unfinished.py:1)"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "check"])
def test_refused_with_one_line(cli: Cli, project: Path, command: str, spec: str, words: str) -> None:
    done = cli(command, "--import", spec)
    told = [line for line in done.err.splitlines() if line not in ("imported", "made", "stepped")]
    assert words in one_line(Done(done.code, done.out, "\n".join(told) + "\n"))


@pytest.mark.parametrize("name", ["fails", "bad_step"])
def test_verbose_shows_the_whole_traceback(cli: Cli, project: Path, name: str) -> None:
    done = cli("inspect", "--import", f"models_of_mine:{name}", "--verbose")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert 'models_of_mine.py", line' in done.err
    assert done.err.splitlines()[-1].startswith("rnndiag: error: ")


def test_a_path_that_a_factory_does_not_take(cli: Cli, project: Path) -> None:
    assert (
        "expected it to take one argument, the PATH: too many"
        in cli("inspect", "a.pt", "--import", "models_of_mine:make_net").err
    )


def test_as_a_process(project: Path) -> None:
    command = [sys.executable, "-m", "rnndiag", "inspect", "--import", "package.nets:make_net", *QUICK]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False, cwd=project)
    assert only(Done(done.returncode, done.stdout, done.stderr))["source"]["format"] == "module"
