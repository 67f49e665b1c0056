"""A module that is stored in any layout and gate order is converted into the module that it was stored from."""

from __future__ import annotations

import pytest
import torch

from rnndiag.checkpoint.contents import in_memory, value_of
from rnndiag.checkpoint.layers.renamed import Renamed
from rnndiag.parsers.parsed import Convention

D, H = 3, 4
PYTORCH = {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}
ORDERS = [("rnn", "h"), ("gru", "rzn"), ("gru", "zrh"), ("lstm", "ifgo"), ("lstm", "ifco"), ("lstm", "iofc")]
LETTERS = {"gru": {"h": "n"}, "lstm": {"c": "g"}, "rnn": {}}


def module(cell):
    gates = len(PYTORCH[cell])
    shapes = {"weight_ih": (D,), "weight_hh": (H,), "bias_ih": (), "bias_hh": ()}
    return {name: torch.randn(gates, H, *rest) for name, rest in shapes.items()}


def stored(whole, cell, layout, order):
    """The gates one by one in the order of the file, each in its layout."""
    letters = [LETTERS[cell].get(letter, letter) for letter in order]
    gates = {name: [blocks[PYTORCH[cell].index(letter)] for letter in letters] for name, blocks in whole.items()}
    tensors = {}
    for role, name in (("ih", "weight_ih"), ("hh", "weight_hh")):
        if layout == "rows":
            tensors[role] = torch.cat(gates[name])
        elif layout == "columns":
            tensors[role] = torch.cat([gate.T for gate in gates[name]], dim=1)
        else:  # the numbers of the gate's rows, written into the shape of its columns
            tensors[role] = torch.cat([gate.flatten().reshape(gate.T.shape) for gate in gates[name]], dim=1)
    tensors["bias"] = torch.stack([torch.cat(gates["bias_ih"]), torch.cat(gates["bias_hh"])])
    return tensors


@pytest.mark.parametrize("layout", ["rows", "columns", "cudnn"])
@pytest.mark.parametrize(("cell", "order"), ORDERS)
def test_every_layout_and_order(cell, order, layout):
    levels = {"_l0": module(cell), "_l0_reverse": module(cell)}
    tensors = {
        f"a.b.{role}{suffix}": in_memory(tensor)
        for suffix, whole in levels.items()
        for role, tensor in stored(whole, cell, layout, order).items()
    }
    known = Convention(cell, None, layout, order, reset_after=False if cell == "gru" else None, backwards=True)
    container = Renamed(tensors)
    container.take_described({"a.b": known})
    assert not container.misfits
    assert container.tensors.keys() == {f"a.b.{name}{suffix}" for suffix, whole in levels.items() for name in whole}
    for suffix, whole in levels.items():
        for name, blocks in whole.items():
            assert torch.equal(value_of(container.tensors[f"a.b.{name}{suffix}"]), blocks.flatten(0, 1)), name
    facts = container.facts["a.b"]
    assert (facts.reset_after, facts.backwards) == (cell != "gru", True)


def test_a_module_that_does_not_fit_its_description_is_a_misfit():
    tensors = {"a.hh_l0": in_memory(torch.zeros(9, 3)), "a.ih_l0": in_memory(torch.zeros(8, 2))}
    container = Renamed(tensors | {"a.weight": in_memory(torch.zeros(5, 2))})
    container.take_described({"a": Convention("gru", None, "rows", "zrh")})
    ((path, reason),) = container.misfits
    assert path == "a"
    assert "hh [9, 3] and ih [8, 2] do not fit each other as those of a gru" in reason
    assert container.tensors.keys() == {"a.weight"}


def test_tensors_of_modules_that_no_convention_describes_stay():
    tensors = {"a.hh_l0": in_memory(torch.zeros(3, 3)), "a.ih_l0": in_memory(torch.zeros(3, 2))}
    container = Renamed(dict(tensors))
    container.take_described({"b": Convention("rnn")})
    assert container.tensors == tensors
