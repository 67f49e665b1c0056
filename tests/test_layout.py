"""Which axis of an array counts the steps: said by an option, by the module, or assumed and reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rnndiag
from rnndiag.errors import ProbeError
from tests.builders.command_line import Cli

ARRAY = torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(0))
SWAPPED = ARRAY.transpose(0, 1).contiguous()


@pytest.mark.parametrize(("batch_first", "array"), [(True, ARRAY), (False, SWAPPED)])
def test_a_module_says_how_it_takes_sequences(batch_first: bool, array: torch.Tensor) -> None:
    torch.manual_seed(0)
    report = rnndiag.inspect(nn.LSTM(3, 4, batch_first=batch_first), inputs=array)
    assert (report.probe.length, report.probe.batch, report.notes) == (20, 4, ())
    expected = rnndiag.inspect(nn.LSTM(3, 4, batch_first=batch_first), inputs=ARRAY, layout="BTD")
    assert (expected.probe.length, expected.probe.batch) == (20, 4)


def test_the_option_comes_before_the_module() -> None:
    report = rnndiag.inspect(nn.LSTM(3, 4), inputs=ARRAY, layout="BTD")
    assert (report.probe.length, report.probe.batch) == (20, 4)
    assert rnndiag.inspect(nn.LSTM(3, 4), inputs=ARRAY[0]).probe.length == 20  # [T, D] is one sequence


def test_modules_that_disagree_are_not_guessed_at() -> None:
    net = nn.ModuleDict({"encoder": nn.GRU(3, 4, batch_first=True), "decoder": nn.GRU(3, 4)})
    with pytest.raises(ProbeError, match=r"encoder takes BTD, decoder takes TBD.*say which .*layout="):
        rnndiag.inspect(net, inputs=ARRAY)
    assert rnndiag.inspect(net, inputs=ARRAY, layout="BTD").probe.length == 20
    assert rnndiag.inspect(net, length=5, batch=2).notes == ()  # a generated probe has no axes to read


def test_a_cell_says_nothing_so_the_assumption_is_reported() -> None:
    report = rnndiag.inspect(nn.GRUCell(3, 4), inputs=ARRAY)
    (note,) = report.notes
    assert "[4, 20, 3] was read as [B, T, D], 4 sequences of 20 steps; if it is [T, B, D], give --layout TBD" in note
    assert rnndiag.inspect(nn.GRUCell(3, 4), inputs=ARRAY[:1]).notes == ()
    same = rnndiag.inspect(nn.GRUCell(3, 4), inputs=SWAPPED, layout="TBD")
    assert (same.probe.length, same.probe.batch, same.notes) == (20, 4, ())


def test_a_step_function() -> None:
    step = lambda h, x: torch.tanh(0.9 * h + x)  # noqa: E731
    one, two = (
        rnndiag.inspect(step, torch.zeros(3), array, layout=layout)
        for array, layout in ((ARRAY, "BTD"), (SWAPPED, "TBD"))
    )
    assert one == two
    states = torch.zeros(4, 3)
    assert rnndiag.inspect(step, states, SWAPPED, layout="TBD").probe.batch == 4
    with pytest.raises(rnndiag.RnndiagError, match=r"state0 is for 4 sequences, inputs hold 20; .* layout=\"TBD\""):
        rnndiag.inspect(step, states, SWAPPED)


CODE = """
import torch


def make(batch_first=False):
    torch.manual_seed(0)
    return torch.nn.LSTM(3, 4, batch_first=batch_first)
"""


def test_a_module_of_a_factory(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("layout_factory.py").write_text(CODE, encoding="utf-8")
    np.save("tbd.npy", SWAPPED.numpy())
    quick = ("check", "--import", "layout_factory:make", "--no-treat", "--fail-on", "never", "--format", "json")
    report = json.loads(cli(*quick, "--probe", "tbd.npy").out)
    assert (report["probe"]["length"], report["probe"]["batch"], report["notes"]) == (20, 4, [])
    other = json.loads(cli(*quick, "--probe", "tbd.npy", "--layout", "BTD").out)
    assert (other["probe"]["length"], other["probe"]["batch"]) == (4, 20)


def test_the_command_line_and_the_config(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.GRU(3, 4).state_dict(), "net.pt")
    for name, array in (("btd.npy", ARRAY), ("tbd.npy", SWAPPED)):
        np.save(name, array.numpy())
    np.savez("tbd.npz", SWAPPED.numpy())
    torch.save(SWAPPED, "tbd.pt")
    arguments = ("inspect", "net.pt", "--no-treat", "--format", "json", "--probe")
    assumed = json.loads(cli(*arguments, "btd.npy").out)
    assert "btd.npy: its array [4, 20, 3] was read as [B, T, D]" in assumed["notes"][-1]
    said = json.loads(cli(*arguments, "btd.npy", "--layout", "BTD").out)
    assert said["notes"] == assumed["notes"][:-1]
    assert said["layers"] == assumed["layers"]
    for file in ("tbd.npy", "tbd.npz", "tbd.pt"):
        assert json.loads(cli(*arguments, file, "--layout", "TBD").out) == said
    few = json.loads(cli(*arguments, "tbd.npy", "--layout", "TBD", "--T", "7", "--batch", "2").out)["probe"]
    assert (few["length"], few["batch"]) == (7, 2)
    Path("rnndiag.yaml").write_text("layout: TBD\n", encoding="utf-8")
    assert json.loads(cli(*arguments, "tbd.npy").out) == said
    Path("rnndiag.yaml").unlink()
    wrong = cli(*arguments, "tbd.npy", "--T", "20")
    assert wrong.code == 2
    assert (
        "--T 20 is more than the 4 that the array has; it was read as [B, T, D]: if it is [T, B, D], give" in wrong.err
    )
    table = cli("check", "net.pt", "--no-treat", "--probe", "btd.npy")
    assert "was read as [B, T, D]" in " ".join(table.out.split())
