"""Whole pickled objects whose classes are gone: written by a script that exists only while it runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

from rnndiag.checkpoint import load

SCRIPT = """
    import sys, types, collections
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Cell(nn.GRUCell):
        pass

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.vectors = nn.Embedding(7, 4)
            self.rnn = nn.RNN(4, 3, 2, nonlinearity="relu", bidirectional=True)
            self.cell = Cell(2, 3)
            self.head = nn.Linear(3, 2)
            self.register_buffer("mean", torch.zeros(3))
            self.extra = [nn.LSTMCell(2, 3)]  # not registered: a plain attribute
            self.ring = [self]
            self.hook = collections.deque([1, 2])

    class Trainer:
        def __init__(self, net):
            self.net = net
            self.optimizer = torch.optim.Adam(net.parameters())
            self.settings = types.SimpleNamespace(lr=0.1, classes=[Net, print])

    class Slotted:
        __slots__ = ("net",)

    net = Net()
    torch.save(net.state_dict(), "expected.pt")
    sum(p.sum() for p in net.parameters()).backward()
    trainer = Trainer(net)
    trainer.optimizer.step()
    slotted = Slotted()
    slotted.net = net
    for legacy in (False, True):
        options = {"_use_new_zipfile_serialization": not legacy}
        net.load_state_dict(torch.load("expected.pt"))
        for name, thing in {
            "net": net,
            "parallel": nn.DataParallel(net),
            "trainer": trainer,
            "slotted": slotted,
            "dict": {"model": net, "optimizer": trainer.optimizer, "epoch": 3},
            "optimizer_first": {"optimizer": trainer.optimizer, "model": net},
            "list": [1, (net,)],
        }.items():
            torch.save(thing, f"{name}{'_legacy' if legacy else ''}.pt", **options)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pickled")
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCRIPT)]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("legacy", ["", "_legacy"], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["net", "parallel", "trainer", "slotted", "dict", "optimizer_first", "list"])
def test_a_module_of_a_vanished_class(folder, name, legacy):
    model = load(folder / f"{name}{legacy}.pt")
    rnn = next(stack for stack in model.stacks if stack.name.endswith("rnn"))
    assert [layer.cell for layer in rnn.layers] == ["relu"] * 4
    expected = torch.load(folder / "expected.pt")
    for i, level in enumerate(rnn.levels):
        for layer in level:
            end = f"_l{i}" + "_reverse" * (layer.direction == "reverse")
            for parameter, value in layer.parameters.items():
                assert torch.equal(value, expected[f"rnn.{parameter}{end}"])
    assert torch.equal(rnn.embedding, expected["vectors.weight"])
    assert sorted(layer.cell for stack in model.stacks for layer in stack.layers) == ["gru", "lstm", *["relu"] * 4]
    assert {stack.assumed_class for stack in model.stacks} == {"", "__main__.Cell"}


def test_names_and_coverage(folder):
    model = load(folder / "net.pt")
    assert [stack.name for stack in model.stacks] == ["rnn", "cell", "extra.0"]
    assert {s.name: s.reason for s in model.source.skipped} == {
        "vectors": "embedding; --probe tokens draws its rows",
        "head": "not recurrent: weight [2, 3], bias [2]",
        "(top level)": "not recurrent: mean [3]",
    }


@pytest.mark.parametrize("legacy", ["", "_legacy"], ids=["zip", "legacy"])
def test_an_optimizer_object_is_optimizer_state(folder, legacy):
    skipped = {s.name: s.reason for s in load(folder / f"dict{legacy}.pt").source.skipped}
    assert skipped["optimizer"] == "optimizer state"
