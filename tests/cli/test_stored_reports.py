"""Changed reports are either read, and can then be shown, or refused with the place of the change."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from rnndiag import api
from rnndiag.comparison.baseline import match, read_reports
from rnndiag.comparison.compare import compare
from rnndiag.config.settings import Settings
from rnndiag.errors import BaselineError, RnndiagError
from rnndiag.files.side_files import MAX_REPORTS_BYTES
from rnndiag.fleet import cache
from rnndiag.fleet.lines import line, prepare_to_continue, stored_reports
from rnndiag.random_nets import RandomNet
from rnndiag.renderers import comparison_table, lines, table
from rnndiag.renderers.registry import COMPARISON, REPORTS
from rnndiag.report import Report, from_json, to_builtins, to_json
from rnndiag.trend import trend
from tests.builders.command_line import Cli
from tests.builders.irregular_files import huge, not_regular
from tests.paths import SAMPLES

QUICK = ("--T", "6", "--batch", "2", "--exponents", "2", "--no-treat")
ODD: tuple[Any, ...] = ([], "nan", -1, 10**18)


@pytest.fixture(scope="module")
def report() -> Report:
    """A report with every kind of part: a layer, findings, theory."""
    settings = Settings(exponents=2, treat=False)
    return api.simulate(RandomNet(sigma=0.3, hidden=3, input_size=2), length=6, batch=2, settings=settings)


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*at, key))
    elif isinstance(tree, list) and tree:
        yield from places(tree[0], (*at, 0))


def changed(tree: Any, at: tuple[Any, ...], value: Any, *, drop: bool = False) -> Any:
    tree = copy.deepcopy(tree)
    inner = tree
    for key in at[:-1]:
        inner = inner[key]
    if drop:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return tree


def show(odd: Report, sound: Report) -> None:
    """Everything that reads a stored report."""
    for name, format_ in REPORTS.items():
        if name != "jsonl":
            format_.render([odd])
    console = Console(file=StringIO(), width=100)
    console.print(table.render([odd], verbose=True))
    console.print(lines.render([odd]))
    for base, new in ((odd, sound), (sound, odd)):
        try:
            result = compare(match(new, [base], "base"), new)
        except RnndiagError:
            continue
        console.print(comparison_table.render(result))
        COMPARISON["json"].render(result)
    with suppress(RnndiagError):
        trend([odd, sound, odd])


def test_whatever_is_changed_a_report_is_refused_or_can_be_shown(report: Report) -> None:
    tree = to_builtins(report)
    shown = refused = 0
    faults = []
    for number, at in enumerate(places(tree)):
        for value in (ODD[number % len(ODD)], None):
            odd = changed(tree, at, value, drop=value is None and number % 2 == 0)
            try:
                read = from_json(json.dumps(odd))
            except msgspec.MsgspecError as error:
                assert "$" in str(error) or "field" in str(error), error  # noqa: PT017
                refused += 1
                continue
            shown += 1
            try:
                show(read, report)
            except Exception as error:  # all of them are faults, and named together
                faults.append((at, value, repr(error)))
    assert faults == []
    assert min(shown, refused) > 50


def deep(text: str) -> str:
    return text[:-1] + ',"x":' + '{"a":' * 10**6 + "1" + "}" * 10**6 + "}"


def edited(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


STRANGE: dict[str, tuple[Callable[[str], str], str]] = {
    "no stacks": (lambda text: json.dumps({**json.loads(text), "stacks": []}), "at `$.stacks`"),
    "nested a million times": (deep, "nested too deeply"),
    "another version": (edited('"schema_version":"1"', '"schema_version":"7"'), "got '7'"),
    "a version that is a list": (edited('"schema_version":"1"', '"schema_version":[[[]]]'), "got [[[]]]"),
    "an unknown verdict": (edited('"verdict":"', '"verdict":"odd'), "at `$.verdict`"),
    "nan for a count": (edited('"length":6', '"length":"nan"'), "at `$.probe.length`"),
    "a bare NaN": (edited('"scale":1.0', '"scale":NaN'), "at line 1, column"),
    "a number of 5,000 digits": (edited('"length":6', f'"length":{"1" * 5000}'), "at `$.probe.length`"),
    "a number beyond float64": (edited('"scale":1.0', '"scale":1e999'), "at `$.probe.scale`"),
    "a missing member": (edited('"stacks":', '"stakcs":'), "missing required field `stacks`"),
    "a list of nothing that fits": (lambda text: "[1, [], null]", "report 1"),
    "cut short": (lambda text: text[: len(text) // 2], "at line 1, column"),
    "not JSON on its second line": (lambda text: "{\n  x}", "at line 2, column 3"),
    "empty but for a brace": (lambda text: "{", "line 1"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_report_is_one_line_with_its_place(cli: Cli, tmp_path: Path, report: Report, name: str) -> None:
    change, words = STRANGE[name]
    path = tmp_path / "kept.json"
    path.write_text(change(to_json(report).decode()), encoding="utf-8")
    with pytest.raises(BaselineError, match=r"kept\.json") as caught:
        read_reports(path)
    assert words in str(caught.value)
    for command in (("check", SAMPLES / "gru.pt", "--baseline", path), ("compare", path, path)):
        done = cli(*command, *(QUICK[:-1] if command[0] == "compare" else QUICK))
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err


def test_a_rule_that_does_not_exist_is_refused(tmp_path: Path, report: Report) -> None:
    tree = to_builtins(report)
    assert tree["findings"]
    tree["findings"][0]["rule"] = "XYZ001"
    path = tmp_path / "kept.json"
    path.write_text(json.dumps([to_builtins(report), tree]), encoding="utf-8")
    with pytest.raises(BaselineError, match=r"report 2: .*the code of a rule.*findings\[0\].rule"):
        read_reports(path)


def test_a_baseline_is_a_regular_file_under_the_limit(cli: Cli, tmp_path: Path) -> None:
    for path in (*not_regular(tmp_path).values(), huge(tmp_path / "huge.json", MAX_REPORTS_BYTES)):
        for command in (("check", SAMPLES / "gru.pt", "--baseline", path), ("compare", path, SAMPLES / "gru.pt")):
            done = cli(*command)
            assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
            assert path.name in done.err
    assert "expected at most 128 MiB, got 128 MiB or more" in done.err


def test_a_strange_cache_entry_is_measured_and_written_again(tmp_path: Path, report: Report) -> None:
    model, folder = SAMPLES / "gru.pt", tmp_path / "cache"
    fresh = api.inspect(model, length=6, batch=2, settings=Settings(exponents=2, treat=False))
    sha = fresh.source.sha256
    entry = folder / sha[:2] / f"{sha}.json"
    sound = to_json(fresh)
    strange: list[bytes | Path] = [change(sound.decode()).encode() for change, _ in STRANGE.values()]
    strange += [
        to_json(report),
        b"\xff",
        b"",
        *not_regular(tmp_path).values(),
        huge(tmp_path / "huge.json", MAX_REPORTS_BYTES),
    ]
    for each in strange:
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.unlink(missing_ok=True)
        if isinstance(each, bytes):
            entry.write_bytes(each)
        elif each.is_dir():
            entry.mkdir()
            (entry / "inner").touch()
        else:
            entry.symlink_to(each)
        calls: list[int] = []

        def measure(calls: list[int] = calls) -> Report:
            calls.append(1)
            return fresh

        changed_nothing = isinstance(each, bytes) and each == sound  # an edit of what this report does not have
        assert to_json(cache.cached_report(folder, str(model), measure)) == sound
        assert len(calls) == (0 if changed_nothing else 1), each
        assert entry.is_file()
        assert entry.read_bytes() == sound


def test_a_file_to_continue_is_refused_with_its_line(cli: Cli, tmp_path: Path) -> None:
    model = SAMPLES / "gru.pt"
    out = tmp_path / "out.jsonl"
    resume = ("check", model, *QUICK, "--format", f"jsonl={out}", "--resume")
    assert cli(*resume).code == 0
    sound = out.read_text(encoding="utf-8")
    for name, (change, _) in STRANGE.items():
        odd = change(sound.strip())
        if odd == sound.strip():
            continue
        out.write_text(odd.replace("\n", " ") + "\n", encoding="utf-8")
        done = cli(*resume)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), (name, done.err)
        assert "line 1 of" in done.err, name
    for path in not_regular(tmp_path).values():
        if path.name != "folder.json":  # no report can be written there in the first place
            done = cli("check", model, *QUICK, "--format", f"jsonl={path}", "--resume")
            assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
            assert "is not a regular file" in done.err


def test_a_line_to_continue_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    monkeypatch.setattr("rnndiag.fleet.lines.MAX_REPORTS_BYTES", 1 << 20)
    path = tmp_path / "out.jsonl"
    path.write_text(line("a.pt", report) + '{"path": "' + "x" * (1 << 20) + '"}\n', encoding="utf-8")
    with pytest.raises(RnndiagError, match=r"line 2 of .* is longer than 1 MiB"):
        prepare_to_continue(path, "")
    assert [at for at, _ in stored_reports(_first_line(path))] == ["a.pt"]


def _first_line(path: Path) -> Path:
    first = path.with_name("first.jsonl")
    first.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    return first
